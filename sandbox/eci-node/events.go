package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// The components that sign events on a pod that runs on ECI.
const (
	componentECI       = "EciService"
	componentKubelet   = "kubelet"
	componentScheduler = "default-scheduler"
	componentNode      = "virtual-kubelet"
)

// EventText is one row of the table of events: what ECI says, and who signs it. Message is a format.
type EventText struct {
	Type, Reason, Component, Message string
}

// The events that ECI and its virtual node write, with the wording that was seen on real pods where it is known.
var (
	eventUserSpec = EventText{corev1.EventTypeNormal, "UserInstanceTypeSpec", componentECI,
		"[eci.containergroup]The user-specified instanceType for current eci instance is %s"}
	eventMatchedSpec = EventText{corev1.EventTypeNormal, "AutoInstanceTypeMatch", componentECI,
		"[eci.containergroup]The most-matched instanceType for current eci instance is %s"}
	eventCacheHit = EventText{corev1.EventTypeNormal, "SuccessfulHitImageCache", componentECI,
		"[eci.imagecache]Successfully hit image cache %s, eci will be scheduled with this image cache."}
	eventCacheMissed = EventText{corev1.EventTypeWarning, "ImageCacheMissed", componentECI,
		"[eci.imagecache]Missed image cache."}
	eventCacheCreated = EventText{corev1.EventTypeNormal, "ImageCacheAutoCreated", componentECI,
		"[eci.imagecache]Image cache %s is auto created"}
	eventNoStock = EventText{corev1.EventTypeWarning, "NoStock", componentECI,
		"Create ECI failed because the specified instance is out of stock. %s"}
	eventStockExhaust = EventText{corev1.EventTypeWarning, "StockExhaust", componentECI,
		"The stock of the specified zones will be used up. %s"}
	eventStockClose = EventText{corev1.EventTypeWarning, "StockClose", componentECI,
		"Create ECI failed because current zone closed or limited without living instance. %s"}
	eventBalance = EventText{corev1.EventTypeWarning, "InsufficientBalance", componentECI,
		"Your account does not have enough balance to purchase %s"}
	eventQuota = EventText{corev1.EventTypeWarning, "QuotaExceeded", componentECI,
		"Eci instance type %s or vcpu quota is exceeded"}
	eventSpotDegraded = EventText{corev1.EventTypeWarning, "SpotDegraded", componentECI,
		"Spot [%s] will be degraded because the specified instance is out of stock"}
	eventSpotRelease = EventText{corev1.EventTypeWarning, "SpotToBeReleased", componentECI,
		"Spot ECI will be released in %d minutes"}
	eventOOM        = EventText{corev1.EventTypeWarning, "OOMKilled", componentECI, "Out of memory"}
	eventStopCharge = EventText{corev1.EventTypeNormal, "StopCharge", componentECI,
		"[eci.containergroup]The instance is no longer charged, its resources are being cleaned up"}
	eventCreateFailed = EventText{corev1.EventTypeWarning, "ProviderCreateFailed", componentNode, "%s"}
	eventPulling      = EventText{corev1.EventTypeNormal, "Pulling", componentKubelet, "Pulling image %q"}
	eventPulled       = EventText{corev1.EventTypeNormal, "Pulled", componentKubelet,
		"Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes."}
	eventPresent = EventText{corev1.EventTypeNormal, "Pulled", componentKubelet,
		"Container image %q already present on machine"}
	eventPullFailed = EventText{corev1.EventTypeWarning, "Failed", componentKubelet, "Failed to pull image %q: %s"}
	eventPullError  = EventText{corev1.EventTypeWarning, "Failed", componentKubelet, "Error: %s"}
	eventBackOff    = EventText{corev1.EventTypeNormal, "BackOff", componentKubelet, "Back-off pulling image %q"}
	eventCreated    = EventText{corev1.EventTypeNormal, "Created", componentKubelet, "Created container %s"}
	eventStarted    = EventText{corev1.EventTypeNormal, "Started", componentKubelet, "Started container %s"}
	eventKilling    = EventText{corev1.EventTypeNormal, "Killing", componentKubelet, "Stopping container %s"}
	eventRestart    = EventText{corev1.EventTypeWarning, "BackOff", componentKubelet,
		"Back-off restarting failed container %s"}
	eventMounted = EventText{corev1.EventTypeNormal, "SuccessfulMountVolume", componentKubelet,
		"MountVolume.SetUp succeeded for volume %q"}
	eventMountFailed = EventText{corev1.EventTypeWarning, "FailedMount", componentKubelet,
		"MountVolume.SetUp failed for volume %q : %s"}
	eventDeadline = EventText{corev1.EventTypeNormal, "DeadlineExceeded", componentKubelet,
		"Pod was active on the node longer than the specified deadline"}
	eventStartFailed = EventText{corev1.EventTypeWarning, "Failed", componentKubelet, "Error: %s"}
	eventScheduled   = EventText{corev1.EventTypeNormal, "Scheduled", componentScheduler,
		"Successfully assigned %s/%s to %s"}
	eventUnschedulable = EventText{corev1.EventTypeWarning, "FailedScheduling", componentScheduler, "%s"}
)

// eventLanes are posted side by side; all events of a pod take the same one.
const eventLanes = 8

// EventLog posts events in played time, those of a pod in the order in which they were told, without making the
// teller wait.
type EventLog struct {
	client corev1client.EventsGetter
	clock  PlayedClock
	host   string
	serial atomic.Int64
	lanes  [eventLanes]eventLane
}

// eventLane is a queue of events, and how many have come and gone.
type eventLane struct {
	mu     sync.Mutex
	queue  []*corev1.Event
	wake   chan struct{}
	posted sync.Cond
	come   int
	gone   int
}

// NewEventLog makes a log that signs as the given host; Run posts what it is told.
func NewEventLog(client corev1client.EventsGetter, clock PlayedClock, host string) *EventLog {
	events := &EventLog{client: client, clock: clock, host: host}
	for n := range events.lanes {
		lane := &events.lanes[n]
		lane.wake, lane.posted.L = make(chan struct{}, 1), &lane.mu
	}
	return events
}

// Tell queues one event on a pod.
func (l *EventLog) Tell(pod *corev1.Pod, text EventText, args ...any) {
	l.TellAt(l.clock.Stamp(), pod, text, args...)
}

// TellAt is Tell with a moment of the teller's own.
func (l *EventLog) TellAt(now metav1.Time, pod *corev1.Pod, text EventText, args ...any) {
	l.laneOf(pod).add(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace,
			Name:      fmt.Sprintf("%.200s.%x%x", pod.Name, time.Now().UnixNano(), l.serial.Add(1)),
		},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace,
			Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Type: text.Type, Reason: text.Reason, Message: fmt.Sprintf(text.Message, args...),
		Source:         corev1.EventSource{Component: text.Component, Host: l.host},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		ReportingController: text.Component, ReportingInstance: l.host,
	})
}

func (l *EventLog) laneOf(pod *corev1.Pod) *eventLane {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(pod.UID)) // never fails
	return &l.lanes[hash.Sum32()%eventLanes]
}

// Run posts events until the context ends.
func (l *EventLog) Run(ctx context.Context) {
	var posting sync.WaitGroup
	for n := range l.lanes {
		posting.Go(func() { l.post(ctx, &l.lanes[n]) })
	}
	posting.Wait()
}

func (l *EventLog) post(ctx context.Context, lane *eventLane) {
	for {
		for event := lane.first(); event != nil; event = lane.first() {
			if _, err := l.client.Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
				slog.Warn("an event was refused", "reason", event.Reason, "pod", event.InvolvedObject.Name, "error", err)
			}
			lane.done()
		}
		select {
		case <-lane.wake:
		case <-ctx.Done():
			return
		}
	}
}

// Flush waits until everything told so far of a pod has been posted; what is told in the meantime it does not wait for.
func (l *EventLog) Flush(pod *corev1.Pod) { l.laneOf(pod).flush() }

func (l *eventLane) add(event *corev1.Event) {
	l.mu.Lock()
	l.queue = append(l.queue, event)
	l.come++
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *eventLane) first() *corev1.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	event := l.queue[0]
	l.queue = l.queue[1:]
	return event
}

func (l *eventLane) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone++
	l.posted.Broadcast()
}

func (l *eventLane) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for told := l.come; l.gone < told; {
		l.posted.Wait()
	}
}

// LibraryEvents passes on what the virtual-kubelet library has to report about a pod. Its reports of success are
// left out: ACK's own virtual node does not write them.
type LibraryEvents struct{ log *EventLog }

// Event implements record.EventRecorder.
func (e LibraryEvents) Event(object runtime.Object, eventType, reason, message string) {
	pod, ok := object.(*corev1.Pod)
	if !ok || eventType == corev1.EventTypeNormal {
		return
	}
	e.log.Tell(pod, EventText{eventType, reason, componentNode, "%s"}, message)
}

// Eventf implements record.EventRecorder.
func (e LibraryEvents) Eventf(object runtime.Object, eventType, reason, format string, args ...any) {
	e.Event(object, eventType, reason, fmt.Sprintf(format, args...))
}

// AnnotatedEventf implements record.EventRecorder.
func (e LibraryEvents) AnnotatedEventf(object runtime.Object, _ map[string]string, eventType, reason, format string,
	args ...any) {
	e.Event(object, eventType, reason, fmt.Sprintf(format, args...))
}
