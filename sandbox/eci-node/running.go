package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	firstRestartBackOff   = 10 * time.Second // played
	longestRestartBackOff = 300 * time.Second
)

func (i *Instance) facts() PodFacts {
	i.mu.Lock()
	defer i.mu.Unlock()
	return PodFacts{pod: i.fresh, ip: i.address, spec: i.offer.Spec}
}

// mountVolumes is the second part of ECI's state Pending. What is missing may still come: it tries again.
func (i *Instance) mountVolumes(ctx context.Context) error {
	volumes := Volumes{Objects: ClusterObjects{i.eci.Client}, Folder: filepath.Join(i.folder, "volumes"),
		Buckets: filepath.Join(i.eci.Dir, "buckets"), Known: i.eci.Buckets, Facts: i.facts()}
	told := ""
	for {
		folders, err := volumes.Prepare(ctx)
		if err == nil {
			i.mu.Lock()
			i.volumes = folders
			i.mu.Unlock()
			for _, volume := range i.pod.Spec.Volumes {
				if volume.PersistentVolumeClaim != nil {
					i.tell(eventMounted, volume.Name)
				}
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if problem := (MountError{}); errors.As(err, &problem) && err.Error() != told {
			told = err.Error()
			i.tell(eventMountFailed, problem.Volume, problem.Cause)
		}
		if err := i.eci.Clock.Sleep(ctx, i.eci.Retry); err != nil {
			return err
		}
	}
}

func (i *Instance) openNetwork(context.Context) error {
	hostname := podHostname(i.pod)
	thread, err := NewPodThread(hostname)
	if err != nil {
		return err
	}
	network, err := NewPodNetwork(thread, i.eci.Reachable)
	if err != nil {
		thread.Close()
		return err
	}
	files, err := WritePodFiles(filepath.Join(i.folder, "etc"), hostname, hostsFile(i.pod))
	if err != nil {
		network.Close()
		thread.Close()
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.thread, i.network, i.files = thread, network, files
	return nil
}

// hostsFile is the pod's /etc/hosts, with the host aliases that GitLab's services are known by. The pod's own name
// is its loopback: there is no other interface.
func hostsFile(pod *corev1.Pod) string {
	var text strings.Builder
	text.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
	fmt.Fprintf(&text, "127.0.0.1\t%s\n", podHostname(pod))
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&text, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return text.String()
}

func (i *Instance) runInitContainers(ctx context.Context) error {
	for _, spec := range i.pod.Spec.InitContainers {
		for backOff := firstRestartBackOff; ; backOff = min(2*backOff, longestRestartBackOff) {
			code, err := i.runOnce(ctx, spec)
			if err != nil {
				return err
			}
			if code == 0 {
				break
			}
			if i.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
				return ending{phase: corev1.PodFailed}
			}
			if err := i.waitToRestart(ctx, spec.Name, backOff); err != nil {
				return err
			}
		}
	}
	return nil
}

// runContainers starts the containers in order and lives with them until they have ended.
func (i *Instance) runContainers(ctx context.Context) error {
	var lives sync.WaitGroup
	failures := make(chan error, len(i.pod.Spec.Containers))
	ordinary := &sync.WaitGroup{}
	for _, spec := range i.pod.Spec.Containers {
		sidecar := plainVariable(spec, envContainerType) == "sidecar"
		container, err := i.startContainer(ctx, spec)
		if err != nil {
			return err
		}
		lives.Add(1)
		if !sidecar {
			ordinary.Add(1)
		}
		go func() {
			defer lives.Done()
			if err := i.keep(ctx, spec, container); err != nil {
				failures <- err
			}
			if !sidecar {
				ordinary.Done()
			}
		}()
	}
	go func() {
		ordinary.Wait()
		i.killSidecars()
	}()
	lives.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return ctx.Err()
	}
}

// killSidecars ends what was declared a sidecar when all ordinary containers have ended.
func (i *Instance) killSidecars() {
	for _, spec := range i.pod.Spec.Containers {
		if container := i.container(spec.Name); plainVariable(spec, envContainerType) == "sidecar" && container != nil {
			container.Kill()
		}
	}
}

// keep follows one container, and starts it anew as the pod's restart policy says.
func (i *Instance) keep(ctx context.Context, spec corev1.Container, container *Container) error {
	for backOff := firstRestartBackOff; ; backOff = min(2*backOff, longestRestartBackOff) {
		select {
		case <-container.Done():
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil // whoever ended the instance stops its containers, and says how they ended
		}
		i.noteEnd(spec.Name, container)
		code := container.Exit().Code
		again := i.pod.Spec.RestartPolicy == corev1.RestartPolicyAlways ||
			(i.pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && code != 0)
		if !again || plainVariable(spec, envContainerType) == "sidecar" {
			return nil
		}
		if err := i.waitToRestart(ctx, spec.Name, backOff); err != nil {
			return nil // the instance has ended
		}
		var err error
		if container, err = i.startContainer(ctx, spec); err != nil {
			return err
		}
	}
}

func (i *Instance) waitToRestart(ctx context.Context, name string, backOff time.Duration) error {
	i.tell(eventRestart, name)
	message := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", backOff, name, i.pod.Name)
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		editContainer(status, name, func(state *corev1.ContainerStatus) {
			state.LastTerminationState = state.State
			state.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: message}}
			state.RestartCount++
		})
		i.summarize(status, now)
	})
	return cause(ctx, i.eci.Clock.Sleep(ctx, backOff))
}

// runOnce runs a container to its end and returns its exit code.
func (i *Instance) runOnce(ctx context.Context, spec corev1.Container) (int, error) {
	container, err := i.startContainer(ctx, spec)
	if err != nil {
		return 0, err
	}
	select {
	case <-container.Done():
		i.noteEnd(spec.Name, container)
		return container.Exit().Code, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// startContainer plans and starts a container and writes that it runs.
func (i *Instance) startContainer(ctx context.Context, spec corev1.Container) (*Container, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	plan, err := i.planWhenPossible(ctx, spec)
	if err != nil {
		return nil, err
	}
	log, err := i.freshLog(spec.Name)
	if err != nil {
		return nil, err
	}
	container, err := StartContainer(i.thread, i.eci.Host, filepath.Join(i.folder, "rootfs"), i.files, plan, log, i.eci.Clock.Now)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	i.containers[spec.Name] = container
	i.mu.Unlock()
	i.tell(eventCreated, spec.Name)
	i.tell(eventStarted, spec.Name)
	yes := true
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		editContainer(status, spec.Name, func(state *corev1.ContainerStatus) {
			state.ContainerID = "containerd://" + container.ID
			state.Image, state.ImageID = fullImageName(spec.Image), imageID(spec.Image)
			state.Started, state.Ready = &yes, true
			state.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
		})
		i.summarize(status, now)
	})
	return container, nil
}

// planWhenPossible waits, as a kubelet does, for a Secret or ConfigMap that a variable names.
func (i *Instance) planWhenPossible(ctx context.Context, spec corev1.Container) (ContainerPlan, error) {
	told := ""
	for {
		plan, err := i.plan(ctx, spec)
		if err == nil {
			return plan, nil
		}
		if ctx.Err() != nil {
			return ContainerPlan{}, context.Cause(ctx)
		}
		if err.Error() != told {
			told = err.Error()
			i.tell(eventStartFailed, told)
		}
		i.report(func(status *corev1.PodStatus, _ metav1.Time) {
			editContainer(status, spec.Name, func(state *corev1.ContainerStatus) {
				state.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
					Reason: "CreateContainerConfigError", Message: told}}
			})
		})
		if err := i.eci.Clock.Sleep(ctx, i.eci.Retry); err != nil {
			return ContainerPlan{}, context.Cause(ctx)
		}
	}
}

func (i *Instance) plan(ctx context.Context, spec corev1.Container) (ContainerPlan, error) {
	image, err := FindImage(spec.Image)
	if err != nil {
		return ContainerPlan{}, err
	}
	environment, err := i.environment().Of(ctx, spec, image)
	if err != nil {
		return ContainerPlan{}, err
	}
	mounts, err := i.mounts(spec, environment)
	if err != nil {
		return ContainerPlan{}, err
	}
	plan := ContainerPlan{
		Name: spec.Name, Image: image, Environment: environment, Mounts: mounts,
		Command:    expandAll(image.CommandLine(spec.Command, spec.Args), environment),
		WorkingDir: spec.WorkingDir, Stdin: spec.Stdin, StdinOnce: spec.StdinOnce, TTY: spec.TTY,
		MemoryBytes: spec.Resources.Limits.Memory().Value(),
	}
	if context := i.pod.Spec.SecurityContext; context != nil {
		plan.User, plan.Group = context.RunAsUser, context.RunAsGroup
	}
	if context := spec.SecurityContext; context != nil && context.RunAsUser != nil {
		plan.User, plan.Group = context.RunAsUser, context.RunAsGroup
	}
	return plan, nil
}

func (i *Instance) environment() Environment {
	i.mu.Lock()
	ticket := i.ticket
	i.mu.Unlock()
	return Environment{objects: ClusterObjects{i.eci.Client}, facts: i.facts(), apiServer: i.eci.APIServer,
		path: i.eci.Host.searchPath(),
		instance: map[string]string{"__ECI_ID__": ticket.InstanceID, "__ECI_NAME__": i.pod.Namespace + "-" + i.pod.Name,
			"__REGION_ID__": i.eci.Region, "__ZONE_ID__": i.zone()}}
}

func (i *Instance) mounts(spec corev1.Container, environment []string) ([]Mount, error) {
	mounts := []Mount{}
	for _, mount := range spec.VolumeMounts {
		source, ok := i.volumes[mount.Name]
		if !ok {
			return nil, fmt.Errorf("volume %q of the container is not a volume of the pod", mount.Name)
		}
		subPath := mount.SubPath
		if mount.SubPathExpr != "" {
			subPath = expandAll([]string{mount.SubPathExpr}, environment)[0]
		}
		if subPath != "" {
			source = filepath.Join(source, filepath.Clean("/"+subPath))
			if err := makeMissingFolder(source); err != nil {
				return nil, err
			}
		}
		mounts = append(mounts, Mount{Source: source, Target: mount.MountPath, ReadOnly: mount.ReadOnly})
	}
	return mounts, nil
}

// freshLog moves a container's log aside, for `kubectl logs --previous`, and opens a new one.
func (i *Instance) freshLog(name string) (*ContainerLog, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if old := i.logs[name]; old != nil {
		i.previous[name] = old
	}
	folder := filepath.Join(i.folder, "logs")
	if err := makeFolder(folder, 0o700); err != nil {
		return nil, err
	}
	log, err := NewContainerLog(filepath.Join(folder, name+"."+randomHex(4)))
	if err != nil {
		return nil, err
	}
	i.logs[name] = log
	return log, nil
}

// noteEnd writes how a container ended.
func (i *Instance) noteEnd(name string, container *Container) {
	exit := container.Exit()
	terminated := corev1.ContainerStateTerminated{ExitCode: int32(exit.Code), Reason: "Completed",
		ContainerID: "containerd://" + container.ID, StartedAt: metav1.NewTime(i.eci.Clock.At(container.started))}
	switch {
	case exit.OOMKilled:
		terminated.Reason = "OOMKilled"
		i.tell(eventOOM)
	case exit.StartError != "":
		terminated.Reason, terminated.Message = "StartError", exit.StartError
		i.tell(eventStartFailed, exit.StartError)
	case exit.Code != 0:
		terminated.Reason = "Error"
	}
	if i.exitIgnored(name) {
		terminated.ExitCode, terminated.Reason = 0, "Completed"
	}
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		terminated.FinishedAt = now
		editContainer(status, name, func(state *corev1.ContainerStatus) {
			no := false
			state.Ready, state.Started = false, &no
			state.State = corev1.ContainerState{Terminated: &terminated}
		})
		i.summarize(status, now)
	})
}

func (i *Instance) exitIgnored(name string) bool {
	for _, spec := range i.pod.Spec.Containers {
		if spec.Name == name {
			return plainVariable(spec, envIgnoreExitCode) == "true"
		}
	}
	return false
}
