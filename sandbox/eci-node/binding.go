package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Labels and annotation keys that decide whether a pod goes to a virtual node.
const (
	eciLabel      = "alibabacloud.com/eci"
	bindingRetry  = 2 * time.Second
	bindingForget = time.Minute
)

// Binder is the scheduler: it binds pods without a node to one of the virtual nodes.
type Binder struct {
	eci   *ECI
	nodes func() []*ZoneNode // those that run now
	mu    sync.Mutex
	turn  int
	told  map[types.UID]time.Time
}

// NewBinder makes one; Run binds.
func NewBinder(eci *ECI, nodes func() []*ZoneNode) *Binder {
	return &Binder{eci: eci, nodes: nodes, told: map[types.UID]time.Time{}}
}

// Run watches pods without a node until the context ends. It looks again at those that found none.
func (b *Binder) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(b.eci.Client, bindingRetry,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", "").String()
		}))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { b.bind(ctx, object) },
		UpdateFunc: func(_, object any) { b.bind(ctx, object) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("pods without a node cannot be watched: %w", ctx.Err())
	}
	return nil
}

func (b *Binder) bind(ctx context.Context, object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 {
		return
	}
	if pod.Spec.SchedulerName != "" && pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return
	}
	node, reason := b.choose(ctx, pod)
	if node == nil {
		b.refuse(ctx, pod, reason)
		return
	}
	err := b.eci.Client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name},
	}, metav1.CreateOptions{})
	if err != nil {
		if !gone(err) {
			slog.Warn("a pod was not bound", "pod", pod.Name, "error", err)
		}
		return
	}
	at := b.eci.Clock.Stamp()
	if script, err := ReadScript(pod); err == nil && script != nil {
		at = metav1.NewTime(script.Begin)
	}
	b.eci.Events.TellAt(at, pod, eventScheduled, pod.Namespace, pod.Name, node.Name)
}

// choose takes the fitting nodes in turn.
func (b *Binder) choose(ctx context.Context, pod *corev1.Pod) (*ZoneNode, string) {
	nodes := b.nodes()
	if !b.welcome(ctx, pod) {
		return nil, fmt.Sprintf("0/%d nodes are available: %d node(s) had untolerated taint {%s: %s}.",
			len(nodes), len(nodes), taintKey, taintValue)
	}
	fitting := []*ZoneNode{}
	for _, node := range nodes {
		if fits(pod, node.object().Labels) {
			fitting = append(fitting, node)
		}
	}
	if len(fitting) == 0 {
		return nil, fmt.Sprintf("0/%d nodes are available: %d node(s) didn't match Pod's node affinity/selector.",
			len(nodes), len(nodes))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	return fitting[b.turn%len(fitting)], ""
}

// welcome says whether a pod may go to a virtual node at all. In ACK Serverless every pod may; in an ACK cluster that
// has other nodes, only those that ask for ECI by label, or that tolerate the nodes' taint.
func (b *Binder) welcome(ctx context.Context, pod *corev1.Pod) bool {
	if !b.eci.ACK || pod.Labels[eciLabel] == "true" {
		return true
	}
	taint := corev1.Taint{Key: taintKey, Value: taintValue, Effect: corev1.TaintEffectNoSchedule}
	for _, toleration := range pod.Spec.Tolerations {
		if tolerates(toleration, taint) {
			return true
		}
	}
	namespace, err := b.eci.Client.CoreV1().Namespaces().Get(ctx, pod.Namespace, getOptions)
	return err == nil && namespace.Labels[eciLabel] == "true"
}

func tolerates(toleration corev1.Toleration, taint corev1.Taint) bool {
	if toleration.Effect != "" && toleration.Effect != taint.Effect {
		return false
	}
	if toleration.Operator == corev1.TolerationOpExists {
		return toleration.Key == "" || toleration.Key == taint.Key
	}
	return toleration.Key == taint.Key && toleration.Value == taint.Value
}

func fits(pod *corev1.Pod, nodeLabels map[string]string) bool {
	return labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(nodeLabels))
}

// refuse writes, once a minute, why a pod has no node.
func (b *Binder) refuse(ctx context.Context, pod *corev1.Pod, reason string) {
	b.mu.Lock()
	recently := time.Since(b.told[pod.UID]) < bindingForget
	b.told[pod.UID] = time.Now()
	b.mu.Unlock()
	if recently {
		return
	}
	b.eci.Events.Tell(pod, eventUnschedulable, reason)
	status := NewPodStatus(b.eci.Client.CoreV1(), pod)
	now := b.eci.Clock.Stamp()
	status.Change(func(status *corev1.PodStatus, _ map[string]string) {
		setCondition(status, now, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, reason)
	})
	status.Flush(ctx)
}
