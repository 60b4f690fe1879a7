package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// PodStatus is the status of one pod, and the annotations that the node adds to it: changed here, written to the
// API server in the background. It is written as a patch of what changed. The library would send the whole pod
// instead, and erase finalizers and conditions that others have added in the meantime.
type PodStatus struct {
	client corev1client.PodsGetter
	key    types.NamespacedName
	uid    types.UID
	mu     sync.Mutex
	wanted *corev1.Pod // only annotations and status are filled
	saved  *corev1.Pod
	dirty  chan struct{}
	write  sync.Mutex
	gone   atomic.Bool
}

// NewPodStatus starts from the pod as it was received, so that conditions written by others survive.
func NewPodStatus(client corev1client.PodsGetter, pod *corev1.Pod) *PodStatus {
	part := &corev1.Pod{Status: *pod.Status.DeepCopy()}
	part.Annotations = map[string]string{}
	return &PodStatus{
		client: client,
		key:    types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name},
		uid:    pod.UID,
		wanted: part,
		saved:  part.DeepCopy(),
		dirty:  make(chan struct{}, 1),
	}
}

// Change edits the status and the node's own annotations.
func (s *PodStatus) Change(edit func(status *corev1.PodStatus, annotations map[string]string)) {
	s.mu.Lock()
	edit(&s.wanted.Status, s.wanted.Annotations)
	s.mu.Unlock()
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// Read returns a copy of the status as it should be, and of the node's annotations.
func (s *PodStatus) Read() (corev1.PodStatus, map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	part := s.wanted.DeepCopy()
	return part.Status, part.Annotations
}

// Run writes changes until the context ends.
func (s *PodStatus) Run(ctx context.Context) {
	for {
		select {
		case <-s.dirty:
			s.Flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Flush writes what is not written yet; it retries until it succeeds, the pod is gone, or the context ends.
func (s *PodStatus) Flush(ctx context.Context) {
	s.write.Lock()
	defer s.write.Unlock()
	for pause := 20 * time.Millisecond; !s.gone.Load(); pause = min(2*pause, 2*time.Second) {
		err := s.patch(ctx)
		if err == nil {
			return
		}
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			s.gone.Store(true) // deleted, or another pod has its name: the UID in the patch says so
			return
		}
		slog.Warn("a pod's status was not written", "pod", s.key, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (s *PodStatus) patch(ctx context.Context) error {
	s.mu.Lock()
	wanted := s.wanted.DeepCopy()
	s.mu.Unlock()
	patch, err := statusPatch(s.uid, s.saved, wanted)
	if err != nil || patch == nil {
		return err
	}
	_, err = s.client.Pods(s.key.Namespace).Patch(ctx, s.key.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{}, "status")
	if err == nil {
		s.saved = wanted
	}
	return err
}

// statusPatch is the strategic merge patch from one status to the next, guarded by the UID; nil if nothing changed.
func statusPatch(uid types.UID, from, to *corev1.Pod) ([]byte, error) {
	before, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil || string(patch) == "{}" {
		return nil, err
	}
	var document map[string]any
	if err := json.Unmarshal(patch, &document); err != nil {
		return nil, err
	}
	metadata, _ := document["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"] = uid
	document["metadata"] = metadata
	return json.Marshal(document)
}

// setCondition writes one condition; its transition time moves only when its status does.
func setCondition(status *corev1.PodStatus, now metav1.Time, kind corev1.PodConditionType,
	value corev1.ConditionStatus, reason, message string) {
	for i := range status.Conditions {
		condition := &status.Conditions[i]
		if condition.Type != kind {
			continue
		}
		if condition.Status != value {
			condition.LastTransitionTime = now
		}
		condition.Status, condition.Reason, condition.Message = value, reason, message
		return
	}
	status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: value, Reason: reason,
		Message: message, LastTransitionTime: now})
}

// Close ends all writing: what is changed from now on is never told.
func (s *PodStatus) Close() { s.gone.Store(true) }
