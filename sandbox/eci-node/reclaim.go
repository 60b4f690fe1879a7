package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errInstanceLost ends streams with an error, where the setting says so.
var errInstanceLost = errors.New("error dialing backend: the instance has been released")

// Reclaim takes a spot instance away: it is announced, and released after the lead time (played). The protection
// period after its creation is respected unless forced.
func (i *Instance) Reclaim(lead time.Duration, force bool) error {
	i.mu.Lock()
	spot, created, protection := i.spot, i.created, i.order.Protection
	i.mu.Unlock()
	now := i.eci.Clock.Now()
	switch {
	case created.IsZero():
		return fmt.Errorf("pod %s has no instance yet", i.pod.Name)
	case i.life.Err() != nil:
		return fmt.Errorf("the instance of pod %s has ended", i.pod.Name)
	case !spot && !force:
		return fmt.Errorf("the instance of pod %s is not a spot instance", i.pod.Name)
	case now.Before(created.Add(protection)) && !force:
		return fmt.Errorf("the instance of pod %s is protected until %s (played time)", i.pod.Name,
			created.Add(protection).UTC().Format(time.RFC3339))
	}
	i.announceRelease(lead)
	go i.releaseAfter(lead)
	return nil
}

func (i *Instance) announceRelease(lead time.Duration) {
	minutes := int(math.Ceil(lead.Minutes()))
	i.tell(eventSpotRelease, minutes)
	message := fmt.Sprintf(eventSpotRelease.Message, minutes)
	i.report(func(status *corev1.PodStatus, now metav1.Time) {
		setCondition(status, now, conditionExpired, corev1.ConditionTrue, "SpotToBeReleased", message)
	})
	if i.order.EvictFirst {
		go i.evict()
	}
}

// evict asks the API server to, as the virtual node does for eci-spot-release-strategy api-evict.
func (i *Instance) evict() {
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: i.pod.Namespace, Name: i.pod.Name}}
	if err := i.eci.Client.PolicyV1().Evictions(i.pod.Namespace).Evict(context.Background(), eviction); err != nil && !gone(err) {
		slog.Warn("an eviction was refused", "pod", i.pod.Name, "error", err)
	}
}

func (i *Instance) releaseAfter(lead time.Duration) {
	if i.eci.Clock.Sleep(i.life, lead) != nil {
		return // it ended before it could be taken
	}
	style := i.eci.Faults.streamEnding()
	if style == EndingDropped {
		i.eci.Streams.Drop(i.pod.Namespace, i.pod.Name)
	}
	i.stop(i.released(style))
}

// released is the end of an instance that is taken away now.
func (i *Instance) released(style StreamEnding) ending {
	at := i.stamp().UTC().Format("2006-01-02T15:04Z")
	return ending{phase: corev1.PodFailed, reason: "BidFailed", silent: true, streams: style,
		message: "The pod is spot instance, and have been released at " + at}
}

// streamEnd is what a stream's client is told when the container's side has ended.
func (i *Instance) streamEnd(err error) error {
	end := ending{}
	if errors.As(context.Cause(i.life), &end) && end.streams == EndingError {
		return errInstanceLost
	}
	return err
}

// CutPower ends an instance without writing anything about it.
func (i *Instance) CutPower() {
	i.status.Close()
	i.eci.Streams.Drop(i.pod.Namespace, i.pod.Name)
	i.mu.Lock()
	charged := i.charged
	i.charged = false
	i.mu.Unlock()
	if charged {
		i.eci.Journal.Note(lineCharged, i)
	}
	i.stop(ending{silent: true})
	<-i.ended
	i.removal.Do(i.clean)
}
