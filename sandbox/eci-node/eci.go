package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Settings are the command line's choices.
type Settings struct {
	Region          string
	Zones           []string
	Dir             string
	Schedule, Pull  time.Duration // played
	SpotLead        time.Duration // played, from the announcement to the release of a spot instance
	Retry           time.Duration // played, between two attempts to find stock or to mount
	ACK             bool          // a cluster with other nodes: only labelled or tolerating pods come here
	SpotSpecECSType bool          // write the ECS type that a spot instance would be matched to
	Buckets         []string      // that exist; empty means all do
}

// ECI is the service of one region as the practice cluster sees it: it owns the instances of all zones.
type ECI struct {
	Settings
	Client        kubernetes.Interface
	Clock         PlayedClock
	Events        *EventLog
	Journal       *Journal
	Faults        *Faults
	Caches        *ImageCaches
	Host          Host
	Reachable     *Reachable
	ServerVersion string
	APIServer     string // HOST:PORT inside pods
	Streams       *Streams

	mu        sync.Mutex
	instances map[string]*Instance // by namespace/name
	addresses int
}

// Instance finds the instance of a pod; nil if there is none.
func (e *ECI) Instance(namespace, name string) *Instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.instances[namespace+"/"+name]
}

// Instances lists those of a node; of all nodes where the name is empty.
func (e *ECI) Instances(node string) []*Instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []*Instance{}
	for _, instance := range e.instances {
		if node == "" || instance.pod.Spec.NodeName == node {
			list = append(list, instance)
		}
	}
	return list
}

// Create begins the life of a pod's instance. A pod that was seen running before belongs to a node program that has
// died, and its processes with it: it is told so, and does not run a second time.
func (e *ECI) Create(ctx context.Context, pod *corev1.Pod) error {
	if wasCreated(pod) {
		return e.bury(ctx, pod)
	}
	script, err := ReadScript(pod)
	if err != nil {
		return err
	}
	if earlier := e.Instance(pod.Namespace, pod.Name); earlier != nil {
		earlier.Forget() // of a deleted pod that had the same name
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	key := pod.Namespace + "/" + pod.Name
	e.addresses++
	address := fmt.Sprintf("172.16.%d.%d", (e.addresses>>8)&0xff, e.addresses&0xff)
	instance := newInstance(e, pod, script, filepath.Join(e.instancesFolder(), string(pod.UID)), address)
	e.instances[key] = instance
	instance.begin()
	return nil
}

func (e *ECI) instancesFolder() string { return filepath.Join(e.Dir, "instances") }

func (e *ECI) forget(instance *Instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := instance.pod.Namespace + "/" + instance.pod.Name
	if e.instances[key] == instance {
		delete(e.instances, key)
	}
}

// usedVCPU is what the quota counts.
func (e *ECI) usedVCPU() float64 {
	used := 0.0
	for _, instance := range e.Instances("") {
		used += instance.chargedVCPU()
	}
	return used
}

func wasCreated(pod *corev1.Pod) bool { return pod.Annotations[writtenInstanceID] != "" }

// bury writes the end of a pod whose instance died with an earlier node program.
func (e *ECI) bury(ctx context.Context, pod *corev1.Pod) error {
	status := NewPodStatus(e.Client.CoreV1(), pod)
	now := e.Clock.Stamp()
	status.Change(func(status *corev1.PodStatus, _ map[string]string) {
		status.Phase, status.Reason = corev1.PodFailed, "NodeLost"
		status.Message = "the node program was restarted, and the pod's processes ended with it"
		for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
			for i := range list {
				if list[i].State.Terminated != nil {
					continue
				}
				list[i].Ready = false
				list[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown", FinishedAt: now, ContainerID: list[i].ContainerID,
					Message: "The container could not be located when the pod was terminated"}}
			}
		}
		setCondition(status, now, corev1.PodReady, corev1.ConditionFalse, "PodFailed", "")
		setCondition(status, now, corev1.ContainersReady, corev1.ConditionFalse, "PodFailed", "")
	})
	status.Flush(ctx)
	return nil
}

// removeObject deletes a pod's object without any grace; it is no error that the pod is gone.
func (e *ECI) removeObject(ctx context.Context, pod *corev1.Pod) error {
	grace := int64(0)
	err := e.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &grace, Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if gone(err) {
		return nil
	}
	return err
}
