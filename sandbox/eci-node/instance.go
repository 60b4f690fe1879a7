package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// removalPatience is for how long an object's removal is tried again.
const removalPatience = 2 * time.Minute

// ending is why an instance's life stops before its containers end by themselves. It travels as a context's cause.
type ending struct {
	phase   corev1.PodPhase // empty: computed from the containers
	reason  string
	message string
	grace   time.Duration // played; between SIGTERM and SIGKILL
	deleted bool          // the pod is being deleted
	silent  bool          // the machine is gone: containers keep the state in which they were last seen
	streams StreamEnding  // how the streams of a silent end look
}

func (e ending) Error() string { return firstOf(e.message, e.reason, "the pod is being deleted") }

// Instance is one ECI instance: one pod from its binding to its deletion. One goroutine lives its life from step to
// step; deletion, reclaim and deadlines cut it short through its context.
type Instance struct {
	eci     *ECI
	pod     *corev1.Pod // as it was received; never changed
	folder  string
	address string
	status  *PodStatus
	life    context.Context
	stop    context.CancelCauseFunc
	ended   chan struct{} // the life is over and the final status is written
	written context.Context
	quit    context.CancelFunc // ends the status writer
	removal sync.Once
	script  *ScriptClock // of a hollow pod; nil where its processes are really run

	mu         sync.Mutex
	fresh      *corev1.Pod // the same with the labels and annotations of today
	ticket     Ticket
	order      Order
	offer      Offer
	spot       bool // really a spot instance, not one that fell back
	created    time.Time
	charged    bool
	thread     *PodThread
	network    *PodNetwork
	files      PodFiles
	volumes    map[string]string
	containers map[string]*Container
	logs       map[string]*ContainerLog
	previous   map[string]*ContainerLog
}

func newInstance(eci *ECI, pod *corev1.Pod, script *Script, folder, address string) *Instance {
	instance := &Instance{
		eci: eci, pod: pod.DeepCopy(), fresh: pod.DeepCopy(), folder: folder, address: address,
		status: NewPodStatus(eci.Client.CoreV1(), pod), ended: make(chan struct{}),
		containers: map[string]*Container{}, logs: map[string]*ContainerLog{}, previous: map[string]*ContainerLog{},
	}
	if script != nil {
		instance.script = NewScriptClock(script)
	}
	instance.life, instance.stop = context.WithCancelCause(context.Background())
	instance.written, instance.quit = context.WithCancel(context.Background())
	return instance
}

func (i *Instance) begin() {
	go i.status.Run(i.written)
	go i.live()
}

func (i *Instance) live() {
	defer close(i.ended)
	i.report(func(status *corev1.PodStatus, now metav1.Time) { i.firstStatus(status, now) })
	if seconds := i.pod.Spec.ActiveDeadlineSeconds; seconds != nil && i.script == nil {
		timer := time.AfterFunc(i.eci.Clock.Real(time.Duration(*seconds)*time.Second), i.expire)
		defer timer.Stop()
	}
	err := i.run()
	end := ending{}
	if cause := context.Cause(i.life); cause != nil {
		err = cause
	}
	if err != nil && !errors.As(err, &end) {
		slog.Error("an instance failed by the machine's fault", "pod", i.pod.Name, "error", err)
		end = ending{phase: corev1.PodFailed, reason: "ProviderFailed", message: err.Error()}
	}
	i.conclude(end)
}

// run goes through the states of an ECI instance: Scheduling, Pending, Running.
func (i *Instance) run() error {
	if i.script != nil {
		return i.playScript(i.life)
	}
	if err := i.schedule(i.life); err != nil {
		return err
	}
	pending, release := context.WithTimeoutCause(i.life, i.eci.Clock.Real(i.order.MaxPending), i.pendingTooLong())
	defer release()
	for _, step := range []func(context.Context) error{i.pullImages, i.mountVolumes, i.openNetwork} {
		if err := step(pending); err != nil {
			return cause(pending, err)
		}
	}
	if err := i.runInitContainers(i.life); err != nil {
		return err
	}
	return i.runContainers(i.life)
}

// cause prefers why a context ended over the error that its end produced.
func cause(ctx context.Context, err error) error {
	if reason := context.Cause(ctx); reason != nil {
		return reason
	}
	return err
}

func (i *Instance) pendingTooLong() ending {
	end := ending{phase: corev1.PodFailed, reason: "PendingTimeout",
		message: fmt.Sprintf("the instance was Pending for more than %d minutes", int(i.order.MaxPending.Minutes()))}
	if i.pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		end.phase = corev1.PodPending
	}
	return end
}

func (i *Instance) expire() {
	i.tell(eventDeadline)
	i.stop(ending{phase: corev1.PodFailed, reason: "DeadlineExceeded", grace: i.gracePeriod(nil),
		message: "Pod was active on the node longer than the specified deadline"})
}

// conclude stops what runs and writes the final status; a deleted pod is then removed from the API server.
func (i *Instance) conclude(end ending) {
	if end.silent {
		i.vanish()
	} else if i.script != nil {
		i.endScript()
	} else {
		i.stopContainers(end.grace)
	}
	i.report(func(status *corev1.PodStatus, now metav1.Time) { finalStatus(status, now, end) })
	i.mu.Lock()
	charged := i.charged
	i.charged = false
	i.mu.Unlock()
	if charged {
		i.eci.Journal.Note(lineCharged, i)
		i.tell(eventStopCharge)
	}
	i.status.Flush(context.Background())
	i.release()
	if end.deleted {
		i.removal.Do(i.remove)
	}
}

// remove deletes the pod's object at once; the library would wait for the whole grace period.
//
// The instance is forgotten first, so that a new pod of the same name is not taken for this one.
func (i *Instance) remove() {
	i.eci.forget(i)
	i.eci.Journal.Note(lineRemoved, i)
	i.eci.Events.Flush(i.pod)
	i.removeObject()
	i.clean()
}

// removeObject tries for as long as an API server may take to restart: nobody else would remove the object.
func (i *Instance) removeObject() {
	for pause, begun := 20*time.Millisecond, time.Now(); ; pause = min(2*pause, 2*time.Second) {
		err := i.eci.removeObject(context.Background(), i.pod)
		if err == nil {
			return
		}
		slog.Warn("a pod was not removed", "pod", i.pod.Name, "error", err)
		if time.Since(begun) > removalPatience {
			return
		}
		time.Sleep(pause)
	}
}

// Delete ends the instance because its pod is deleted. It returns at once; a second call changes nothing.
func (i *Instance) Delete(grace *int64) {
	select {
	case <-i.ended: // it has its final status already
		go i.removal.Do(i.remove)
	default:
		i.stop(ending{deleted: true, grace: i.gracePeriod(grace)})
	}
}

func (i *Instance) gracePeriod(asked *int64) time.Duration {
	if asked == nil {
		asked = i.pod.Spec.TerminationGracePeriodSeconds
	}
	if asked == nil {
		return 30 * time.Second
	}
	return time.Duration(*asked) * time.Second
}

// Forget removes everything of an instance whose pod is gone from the API server.
func (i *Instance) Forget() {
	i.stop(ending{deleted: true})
	<-i.ended
	i.removal.Do(i.remove)
}

// clean gives back what is left of an ended instance.
func (i *Instance) clean() {
	i.eci.forget(i)
	i.quit()
	for _, log := range i.allLogs() {
		log.Close()
	}
	if err := removeFolder(i.folder); err != nil {
		slog.Warn("an instance left files", "folder", i.folder, "error", err)
	}
}

func (i *Instance) allLogs() []*ContainerLog {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := []*ContainerLog{}
	for _, logs := range []map[string]*ContainerLog{i.logs, i.previous} {
		for _, log := range logs {
			all = append(all, log)
		}
	}
	return all
}

// release gives back namespaces and volumes; the logs stay until the pod is gone.
func (i *Instance) release() {
	i.mu.Lock()
	thread, network := i.thread, i.network
	i.thread, i.network = nil, nil
	i.mu.Unlock()
	if network != nil {
		network.Close()
	}
	if thread != nil {
		thread.Close()
	}
	for _, part := range []string{"volumes", "rootfs", "etc"} {
		if err := removeFolder(filepath.Join(i.folder, part)); err != nil {
			slog.Warn("an instance left files", "folder", i.folder, "error", err)
		}
	}
}

// Refresh takes over labels and annotations that others have changed.
func (i *Instance) Refresh(pod *corev1.Pod) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fresh = pod.DeepCopy()
}

// Pod is a copy of the pod with the status that the instance has now.
func (i *Instance) Pod() *corev1.Pod {
	status, _ := i.status.Read()
	i.mu.Lock()
	defer i.mu.Unlock()
	pod := i.fresh.DeepCopy()
	pod.Status = status
	return pod
}

func (i *Instance) chargedVCPU() float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.charged {
		return 0
	}
	return i.offer.Spec.VCPU
}

// container finds a container that has been started.
func (i *Instance) container(name string) *Container {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.containers[name]
}

func (i *Instance) runningContainers() []*Container {
	i.mu.Lock()
	defer i.mu.Unlock()
	running := []*Container{}
	for _, container := range i.containers {
		if container.Running() {
			running = append(running, container)
		}
	}
	return running
}

// stopContainers asks all to end, waits for the grace period, and then kills.
func (i *Instance) stopContainers(grace time.Duration) {
	running := i.runningContainers()
	defer i.noteEnds()
	patience, release := context.WithTimeout(context.Background(), i.eci.Clock.Real(grace))
	defer release()
	for _, container := range running {
		i.tell(eventKilling, container.Plan.Name)
		container.Signal(syscall.SIGTERM)
	}
	for _, container := range running {
		select {
		case <-container.Done():
		case <-patience.Done():
			container.Kill()
		}
	}
}

// noteEnds writes the end of every container whose status still says that it runs.
func (i *Instance) noteEnds() {
	status, _ := i.status.Read()
	for _, seen := range append(status.InitContainerStatuses, status.ContainerStatuses...) {
		if container := i.container(seen.Name); container != nil && seen.State.Running != nil {
			i.noteEnd(seen.Name, container)
		}
	}
}

// vanish ends the processes without a word about them, as when the machine below is taken away.
func (i *Instance) vanish() {
	for _, container := range i.runningContainers() {
		container.Kill()
	}
}

func (i *Instance) tell(text EventText, args ...any) {
	i.eci.Events.TellAt(i.stamp(), i.Pod(), text, args...)
	i.eci.Journal.NoteEvent(i, text, args...)
}

// stamp is the moment that is written into Kubernetes now.
func (i *Instance) stamp() metav1.Time {
	if i.script != nil {
		return i.script.Stamp()
	}
	return i.eci.Clock.Stamp()
}

func (i *Instance) report(edit func(status *corev1.PodStatus, now metav1.Time)) {
	now := i.stamp()
	i.status.Change(func(status *corev1.PodStatus, _ map[string]string) { edit(status, now) })
	i.eci.Journal.Note(lineStatus, i)
}

// removeFolder removes a folder of this program. It takes down mounts below it first and goes nowhere near one that
// stays: what is mounted there may be somebody's data.
func removeFolder(path string) error {
	if err := unmountBelow(path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// log finds what a container wrote, in its present life or in the one before.
func (i *Instance) log(name string, previous bool) *ContainerLog {
	i.mu.Lock()
	defer i.mu.Unlock()
	if previous {
		return i.previous[name]
	}
	return i.logs[name]
}
