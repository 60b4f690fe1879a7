package main

import (
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conditions that ECI adds to Kubernetes' own.
const (
	conditionCreated = corev1.PodConditionType("ContainerInstanceCreated")
	conditionExpired = corev1.PodConditionType("ContainerInstanceExpired")
	conditionDisk    = corev1.PodConditionType("ContainerHasSufficientDisk")
)

func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// firstStatus is what a pod looks like that has just come to its node.
func (i *Instance) firstStatus(status *corev1.PodStatus, now metav1.Time) {
	status.Phase = corev1.PodPending
	status.StartTime = &now
	waiting := "ContainerCreating"
	if len(i.pod.Spec.InitContainers) > 0 {
		waiting = "PodInitializing"
	}
	status.InitContainerStatuses = waitingStatuses(i.pod.Spec.InitContainers, waiting)
	status.ContainerStatuses = waitingStatuses(i.pod.Spec.Containers, waiting)
	setCondition(status, now, corev1.PodScheduled, corev1.ConditionTrue, "", "")
	setCondition(status, now, conditionCreated, corev1.ConditionFalse, "Creating", "")
	i.summarize(status, now)
}

func waitingStatuses(containers []corev1.Container, reason string) []corev1.ContainerStatus {
	no := false
	statuses := make([]corev1.ContainerStatus, len(containers))
	for n, container := range containers {
		statuses[n] = corev1.ContainerStatus{Name: container.Name, Image: container.Image, Started: &no,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
	}
	return statuses
}

// summarize derives phase and conditions from the containers.
func (i *Instance) summarize(status *corev1.PodStatus, now metav1.Time) {
	initialized := true
	for _, container := range status.InitContainerStatuses {
		done := container.State.Terminated != nil && container.State.Terminated.ExitCode == 0
		initialized = initialized && done
	}
	setFlag(status, now, corev1.PodInitialized, initialized, "ContainersNotInitialized",
		unreadyMessage("incomplete", status.InitContainerStatuses, nil))
	running, ready := false, len(status.ContainerStatuses) > 0
	for n := range status.ContainerStatuses {
		container := &status.ContainerStatuses[n]
		running = running || container.State.Running != nil
		ready = ready && (container.Ready || i.readinessIgnored(container.Name))
	}
	if running {
		status.Phase = corev1.PodRunning
	}
	message := unreadyMessage("unready", status.ContainerStatuses, i.readinessIgnored)
	setFlag(status, now, corev1.ContainersReady, ready, "ContainersNotReady", message)
	setFlag(status, now, corev1.PodReady, ready, "ContainersNotReady", message)
}

func (i *Instance) readinessIgnored(name string) bool {
	for _, container := range i.pod.Spec.Containers {
		if container.Name == name {
			return plainVariable(container, envIgnoreReady) == "true"
		}
	}
	return false
}

func setFlag(status *corev1.PodStatus, now metav1.Time, kind corev1.PodConditionType, value bool, reason, message string) {
	if value {
		setCondition(status, now, kind, corev1.ConditionTrue, "", "")
		return
	}
	setCondition(status, now, kind, corev1.ConditionFalse, reason, message)
}

func unreadyMessage(word string, containers []corev1.ContainerStatus, ignored func(string) bool) string {
	names := ""
	for _, container := range containers {
		done := container.State.Terminated != nil && container.State.Terminated.ExitCode == 0
		if container.Ready || (word == "incomplete" && done) || (ignored != nil && ignored(container.Name)) {
			continue
		}
		if names != "" {
			names += " "
		}
		names += container.Name
	}
	return "containers with " + word + " status: [" + names + "]"
}

// finalStatus is written once, when nothing of the pod runs any more.
func finalStatus(status *corev1.PodStatus, now metav1.Time, end ending) {
	status.Phase = end.phase
	if end.phase == "" {
		status.Phase = phaseOf(status.ContainerStatuses)
	}
	status.Reason, status.Message = end.reason, end.message
	reason := "PodFailed"
	if status.Phase == corev1.PodSucceeded {
		reason = "PodCompleted"
	}
	if !end.silent {
		setCondition(status, now, corev1.ContainersReady, corev1.ConditionFalse, reason, "")
		setCondition(status, now, corev1.PodReady, corev1.ConditionFalse, reason, "")
	}
}

// phaseOf is Succeeded when every container ended well.
func phaseOf(containers []corev1.ContainerStatus) corev1.PodPhase {
	for _, container := range containers {
		if container.State.Terminated == nil || container.State.Terminated.ExitCode != 0 {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}

// editContainer changes one container's status, whichever list it is in.
func editContainer(status *corev1.PodStatus, name string, edit func(*corev1.ContainerStatus)) {
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for n := range list {
			if list[n].Name == name {
				edit(&list[n])
			}
		}
	}
}
