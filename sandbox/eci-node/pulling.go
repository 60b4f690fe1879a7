package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	firstPullBackOff   = 10 * time.Second // played
	longestPullBackOff = 300 * time.Second
)

// pullImages is the first part of ECI's state Pending: it is charged from here on. All images of a pod are pulled at
// the same time; those in an image cache are there already.
func (i *Instance) pullImages(ctx context.Context) error {
	cached := i.matchCache()
	for backOff := firstPullBackOff; ; backOff = min(2*backOff, longestPullBackOff) {
		failures := i.pullOnce(ctx, cached)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(failures) == 0 {
			return nil
		}
		i.reportPull(failures, "ErrImagePull")
		if err := i.eci.Clock.Sleep(ctx, backOff/2); err != nil {
			return err
		}
		backedOff := map[string]string{}
		for image := range failures {
			backedOff[image] = "Back-off pulling image \"" + image + "\""
			i.tell(eventBackOff, image)
			i.tell(eventPullError, "ImagePullBackOff")
		}
		i.reportPull(backedOff, "ImagePullBackOff")
		if err := i.eci.Clock.Sleep(ctx, backOff/2); err != nil {
			return err
		}
	}
}

// pullOnce tries every image and returns the runtime's words for those that failed.
func (i *Instance) pullOnce(ctx context.Context, cached map[string]bool) map[string]string {
	failures := map[string]string{}
	images := map[string]time.Duration{}
	longest := time.Duration(0)
	for _, container := range i.allContainers() {
		name := container.Image
		if _, seen := images[name]; seen {
			continue
		}
		if cached[name] && container.ImagePullPolicy != corev1.PullAlways {
			images[name] = 0
			continue
		}
		delay, failure := i.eci.Faults.pull(name)
		if !cached[name] {
			delay += i.eci.Pull
		}
		if _, err := FindImage(name); err != nil && failure == "" {
			failure = err.Error()
		}
		images[name], longest = delay, max(longest, delay)
		i.tell(eventPulling, name)
		if failure != "" {
			failures[name] = failure
		}
	}
	if i.eci.Clock.Sleep(ctx, longest) != nil {
		return failures
	}
	for _, container := range i.allContainers() {
		delay, asked := images[container.Image]
		if !asked {
			continue
		}
		delete(images, container.Image)
		i.tellPull(container, delay, failures[container.Image], cached[container.Image])
	}
	return failures
}

func (i *Instance) tellPull(container corev1.Container, took time.Duration, failure string, cached bool) {
	switch {
	case failure != "":
		i.tell(eventPullFailed, container.Image, failure)
		i.tell(eventPullError, "ErrImagePull")
	case cached && container.ImagePullPolicy != corev1.PullAlways:
		i.tell(eventPresent, container.Image)
	default:
		image, _ := FindImage(container.Image) // it was found, or there would be a failure
		i.tell(eventPulled, container.Image, took, took, image.SizeBytes)
	}
}

func (i *Instance) allContainers() []corev1.Container {
	return append(append([]corev1.Container{}, i.pod.Spec.InitContainers...), i.pod.Spec.Containers...)
}

func (i *Instance) reportPull(failures map[string]string, reason string) {
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		for _, container := range i.allContainers() {
			message, failed := failures[container.Image]
			if !failed {
				continue
			}
			editContainer(status, container.Name, func(state *corev1.ContainerStatus) {
				state.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
			})
		}
		i.summarize(status, now)
	})
}

// matchCache finds the image cache of the pod and says which images it holds.
func (i *Instance) matchCache() map[string]bool {
	images := []string{}
	for _, container := range i.allContainers() {
		images = append(images, container.Image)
	}
	if !i.order.AutoCache && i.order.CacheID == "" {
		return nil
	}
	id, cached := i.eci.Caches.Match(images, i.order.CacheID)
	if id == "" {
		i.tell(eventCacheMissed)
		if i.order.AutoCache && i.order.CacheID == "" && allFound(images) {
			i.tell(eventCacheCreated, i.eci.Caches.CreateBeside(images))
		}
		return nil
	}
	i.tell(eventCacheHit, id)
	i.status.Change(func(_ *corev1.PodStatus, annotations map[string]string) {
		annotations[writtenMatchedCache] = id
	})
	return cached
}

func allFound(images []string) bool {
	for _, image := range images {
		if _, err := FindImage(image); err != nil {
			return false
		}
	}
	return true
}
