package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readHollow is the practice cluster's own annotation, no ECI's: its value is a Script.
const readHollow = "practice.runbook/hollow"

// Ways in which a hollow pod's life ends.
const (
	hollowDeleted   = "deleted"    // it runs until it is deleted, as a job's pod does
	hollowExit      = "exit"       // the first container ends with ExitCode
	hollowOOM       = "oom"        // the first container is killed for want of memory
	hollowReclaim   = "reclaim"    // the spot instance is taken away, announced Notice seconds before
	hollowImagePull = "image_pull" // the images cannot be pulled
	hollowNoStock   = "no_stock"   // there is no instance
)

// Script is the life of a pod without processes: everything that Kubernetes sees of it, and when. Its moments are
// played seconds after Begin, when the pod came to its node. They are written exactly as they stand here, however late
// this machine is, so that whoever wrote the script knows what a history must say.
type Script struct {
	Begin    time.Time `json:"begin"`
	Factor   float64   `json:"factor"`   // played seconds in a real one
	Instance float64   `json:"instance"` // room is found: billing begins
	Pulled   float64   `json:"pulled"`
	Running  float64   `json:"running"`
	End      float64   `json:"end"`     // of what ends by itself
	Deleted  float64   `json:"deleted"` // the pod ends here when it is deleted now or later
	Ending   string    `json:"ending"`
	ExitCode int32     `json:"exit_code,omitempty"`
	Notice   float64   `json:"notice,omitempty"`
	Cached   bool      `json:"cached,omitempty"` // an image cache holds the images
}

// ReadScript finds a pod's script; nil where its processes are really run.
func ReadScript(pod *corev1.Pod) (*Script, error) {
	text := pod.Annotations[readHollow]
	if text == "" {
		return nil, nil
	}
	script := &Script{}
	if err := json.Unmarshal([]byte(text), script); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", readHollow, err)
	}
	return script, script.check()
}

func (s *Script) check() error {
	known := map[string]float64{hollowDeleted: s.Deleted, hollowExit: s.End, hollowOOM: s.End,
		hollowReclaim: s.End - s.Notice, hollowImagePull: s.Deleted, hollowNoStock: s.Deleted}
	last, ok := known[s.Ending]
	before := 0.0
	for _, moment := range []float64{s.Instance, s.Pulled, s.Running} {
		ok, before = ok && moment >= before, moment
	}
	early := s.Ending == hollowNoStock || s.Ending == hollowImagePull
	if !ok || s.Factor <= 0 || s.Begin.IsZero() || (!early && last < before) {
		return fmt.Errorf("annotation %s: an unknown ending, or moments that do not rise: %+v", readHollow, *s)
	}
	return nil
}

// ScriptClock stands at one moment of a script until it is told to go on.
type ScriptClock struct {
	script *Script
	mu     sync.Mutex
	offset float64 // played seconds after Begin
	since  time.Time
}

// NewScriptClock stands at the beginning.
func NewScriptClock(script *Script) *ScriptClock {
	return &ScriptClock{script: script, since: time.Now()}
}

// Stamp is the moment at which the clock stands.
func (c *ScriptClock) Stamp() metav1.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return metav1.NewTime(c.script.Begin.Add(time.Duration(c.offset * float64(time.Second))))
}

// Reach waits until a moment has come, and stands there. Lateness is not made up for: the next one is as far away.
func (c *ScriptClock) Reach(ctx context.Context, offset float64) error {
	c.mu.Lock()
	due := c.since.Add(time.Duration((offset - c.offset) / c.script.Factor * float64(time.Second)))
	c.mu.Unlock()
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset, c.since = offset, time.Now()
	return nil
}

// Settle moves the clock to this instant, but not beyond the moment for which the deletion is written.
func (c *ScriptClock) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := c.offset + time.Since(c.since).Seconds()*c.script.Factor
	c.offset = max(c.offset, min(passed, c.script.Deleted))
}

// playScript goes through the states of an ECI instance by the script alone.
func (i *Instance) playScript(ctx context.Context) error {
	script := i.script.script
	order, err := ReadOrder(i.pod, i.eci.Region)
	if err != nil {
		return i.refuse(err.Error())
	}
	i.mu.Lock()
	i.order = order
	i.mu.Unlock()
	if err := i.script.Reach(ctx, script.Instance); err != nil {
		return err
	}
	attempt := order.attempts()[0]
	if script.Ending == hollowNoStock {
		return i.playNoStock(ctx, attempt)
	}
	i.take(attempt)
	if err := i.playPull(ctx, script); err != nil {
		return err
	}
	if err := i.script.Reach(ctx, script.Running); err != nil {
		return err
	}
	i.playStart()
	switch script.Ending {
	case hollowReclaim:
		return i.playReclaim(ctx, script)
	case hollowExit, hollowOOM:
		if err := i.script.Reach(ctx, script.End); err != nil {
			return err
		}
		i.playExit(script)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (i *Instance) playNoStock(ctx context.Context, attempt attempt) error {
	subject := i.zone() + " [" + attempt.offer.Name() + "]"
	i.tell(eventNoStock, subject)
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		setCondition(status, now, conditionCreated, corev1.ConditionFalse, "ContainerGroup.NoStock",
			fmt.Sprintf(eventNoStock.Message, subject))
	})
	<-ctx.Done()
	return context.Cause(ctx)
}

// playPull pulls every image of the pod, or fails to.
func (i *Instance) playPull(ctx context.Context, script *Script) error {
	if script.Cached {
		id := newID("imc", i.eci.Region)
		i.tell(eventCacheHit, id)
		i.status.Change(func(_ *corev1.PodStatus, annotations map[string]string) { annotations[writtenMatchedCache] = id })
	} else {
		i.tell(eventCacheMissed)
	}
	pulled := map[string]corev1.Container{}
	for _, container := range i.allContainers() {
		if _, seen := pulled[container.Image]; !seen && !script.Cached {
			i.tell(eventPulling, container.Image)
		}
		pulled[container.Image] = container
	}
	if err := i.script.Reach(ctx, script.Pulled); err != nil {
		return err
	}
	took := time.Duration((script.Pulled - script.Instance) * float64(time.Second))
	failures := map[string]string{}
	for image, container := range pulled {
		if script.Ending == hollowImagePull {
			failures[image] = PullError{image, "net/http: TLS handshake timeout"}.Error()
		}
		i.tellPull(container, took, failures[image], script.Cached)
	}
	if len(failures) == 0 {
		return nil
	}
	i.reportPull(failures, "ErrImagePull")
	<-ctx.Done()
	return context.Cause(ctx)
}

// playStart lets the init containers have ended and the others run.
func (i *Instance) playStart() {
	for _, container := range i.allContainers() {
		i.tell(eventCreated, container.Name)
		i.tell(eventStarted, container.Name)
	}
	yes := true
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		for _, container := range i.allContainers() {
			editContainer(status, container.Name, func(state *corev1.ContainerStatus) {
				state.ContainerID = "containerd://" + randomHex(32)
				state.Image, state.ImageID = fullImageName(container.Image), imageID(container.Image)
				state.Started, state.Ready = &yes, true
				state.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
			})
		}
		for _, container := range i.pod.Spec.InitContainers {
			endContainer(status, container.Name, now, 0, "Completed")
		}
		i.summarize(status, now)
	})
}

func (i *Instance) playExit(script *Script) {
	code, reason := script.ExitCode, "Error"
	if script.Ending == hollowOOM {
		code, reason = 137, "OOMKilled"
		i.tell(eventOOM)
	}
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		endContainer(status, i.pod.Spec.Containers[0].Name, now, code, reason)
		i.summarize(status, now)
	})
}

func (i *Instance) playReclaim(ctx context.Context, script *Script) error {
	if err := i.script.Reach(ctx, script.End-script.Notice); err != nil {
		return err
	}
	i.announceRelease(time.Duration(script.Notice * float64(time.Second)))
	if err := i.script.Reach(ctx, script.End); err != nil {
		return err
	}
	return i.released(EndingKilled)
}

// endScript is what stopping the containers is for a pod that has processes.
func (i *Instance) endScript() {
	i.script.Settle()
	status, _ := i.status.Read()
	running := []string{}
	for _, container := range status.ContainerStatuses {
		if container.State.Running != nil {
			running = append(running, container.Name)
			i.tell(eventKilling, container.Name)
		}
	}
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		for _, name := range running {
			endContainer(status, name, now, 137, "Error")
		}
		i.summarize(status, now)
	})
}

func endContainer(status *corev1.PodStatus, name string, now metav1.Time, code int32, reason string) {
	no := false
	editContainer(status, name, func(state *corev1.ContainerStatus) {
		started := now
		if state.State.Running != nil {
			started = state.State.Running.StartedAt
		}
		state.Ready, state.Started = false, &no
		state.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason,
			ContainerID: state.ContainerID, StartedAt: started, FinishedAt: now}}
	})
}
