package main

import (
	"context"
	"fmt"
	"time"

	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
	"github.com/virtual-kubelet/virtual-kubelet/node/nodeutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/workqueue"
)

const (
	nodePrefix  = "virtual-kubelet-"
	taintKey    = "virtual-kubelet.io/provider"
	taintValue  = "alibabacloud"
	podWorkers  = 8
	readyWithin = 30 * time.Second
)

var getOptions = metav1.GetOptions{}

// ZoneNode is one virtual node: the node object, its lease, and the controller that follows its pods.
type ZoneNode struct {
	eci  *ECI
	Name string
	zone string
	port int32
	stop context.CancelFunc
	done chan struct{}
}

// StartZoneNode registers the node of a zone and returns when it is Ready. Its kubelet listens on the given port.
func StartZoneNode(ctx context.Context, eci *ECI, zone string, port int) (*ZoneNode, error) {
	ctx, stop := context.WithCancel(ctx)
	zoneNode := &ZoneNode{eci: eci, Name: nodePrefix + zone, zone: zone, port: int32(port), stop: stop, done: make(chan struct{})}
	pods, err := zoneNode.podController(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	nodes, err := vknode.NewNodeController(vknode.NewNaiveNodeProvider(), zoneNode.object(), eci.Client.CoreV1().Nodes(),
		vknode.WithNodeEnableLeaseV1(nodeutil.NodeLeaseV1Client(eci.Client), vknode.DefaultLeaseDuration))
	if err != nil {
		stop()
		return nil, err
	}
	go pods.Run(ctx, podWorkers) //nolint:errcheck // its error is read from Err
	go func() {
		defer close(zoneNode.done)
		<-pods.Done()
		<-nodes.Done()
	}()
	deadline := time.After(readyWithin)
	select {
	case <-pods.Ready():
	case <-pods.Done():
		stop()
		return nil, fmt.Errorf("node %s: %w", zoneNode.Name, pods.Err())
	case <-deadline:
		stop()
		return nil, fmt.Errorf("node %s cannot list its pods within %s", zoneNode.Name, readyWithin)
	}
	go nodes.Run(ctx) //nolint:errcheck // its error is read from Err
	select {
	case <-nodes.Ready():
		return zoneNode, nil
	case <-nodes.Done():
		stop()
		return nil, fmt.Errorf("node %s: %w", zoneNode.Name, nodes.Err())
	case <-deadline:
		stop()
		return nil, fmt.Errorf("node %s cannot be registered within %s", zoneNode.Name, readyWithin)
	}
}

// Stop ends the controllers; the node's lease is no longer renewed.
func (n *ZoneNode) Stop() {
	n.stop()
	<-n.done
}

func (n *ZoneNode) podController(ctx context.Context) (*vknode.PodController, error) {
	client := n.eci.Client
	pods := informers.NewSharedInformerFactoryWithOptions(client, 0, nodeutil.PodInformerFilter(n.Name))
	// The library wants these for references in variables, which are resolved here when a container starts; so they
	// are never started.
	rest := informers.NewSharedInformerFactory(client, 0)
	controller, err := vknode.NewPodController(vknode.PodControllerConfig{
		PodClient:                 finalDeleter{client.CoreV1(), n.eci},
		EventRecorder:             LibraryEvents{n.eci.Events},
		Provider:                  &ZoneProvider{n.eci, n.Name, pods.Core().V1().Pods().Lister()},
		PodInformer:               pods.Core().V1().Pods(),
		SecretInformer:            rest.Core().V1().Secrets(),
		ConfigMapInformer:         rest.Core().V1().ConfigMaps(),
		ServiceInformer:           rest.Core().V1().Services(),
		SkipDownwardAPIResolution: true,

		SyncPodsFromKubernetesRateLimiter:    failuresOnly(),
		DeletePodsFromKubernetesRateLimiter:  failuresOnly(),
		SyncPodStatusFromProviderRateLimiter: failuresOnly(),
	})
	if err != nil {
		return nil, err
	}
	pods.Start(ctx.Done())
	return controller, nil
}

// failuresOnly holds back what has failed. The library's own limiter also holds everything to 10 changes a second.
func failuresOnly() workqueue.TypedRateLimiter[any] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[any](5*time.Millisecond, 30*time.Second)
}

// object is the node as ACK writes it.
func (n *ZoneNode) object() *corev1.Node {
	now := metav1.Now()
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("1M"),
		corev1.ResourceMemory:           resource.MustParse("4Pi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("60000Gi"),
		corev1.ResourcePods:             resource.MustParse("1k"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{
			"type":                                                    "virtual-kubelet",
			"kubernetes.io/role":                                      "agent",
			"node-role.kubernetes.io/agent":                           "",
			"kubernetes.io/hostname":                                  n.Name,
			"kubernetes.io/os":                                        "linux",
			"kubernetes.io/arch":                                      "amd64",
			"beta.kubernetes.io/os":                                   "linux",
			"beta.kubernetes.io/arch":                                 "amd64",
			"topology.kubernetes.io/region":                           n.eci.Region,
			"topology.kubernetes.io/zone":                             n.zone,
			"failure-domain.beta.kubernetes.io/region":                n.eci.Region,
			"failure-domain.beta.kubernetes.io/zone":                  n.zone,
			"alpha.service-controller.kubernetes.io/exclude-balancer": "true",
			"service.beta.kubernetes.io/exclude-node":                 "true",
		}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintKey, Value: taintValue, Effect: corev1.TaintEffectNoSchedule}}},
		Status: corev1.NodeStatus{
			Phase:           corev1.NodeRunning,
			Capacity:        capacity,
			Allocatable:     capacity,
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: n.port}},
			NodeInfo: corev1.NodeSystemInfo{Architecture: "amd64", OperatingSystem: "linux",
				KubeletVersion: n.eci.ServerVersion},
			Conditions: []corev1.NodeCondition{
				nodeCondition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is ready.", now),
				nodeCondition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now),
				nodeCondition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available", now),
				nodeCondition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available", now),
				nodeCondition(corev1.NodeNetworkUnavailable, corev1.ConditionFalse, "RouteCreated", "RouteController created a route", now),
			},
		},
	}
}

func nodeCondition(kind corev1.NodeConditionType, value corev1.ConditionStatus, reason, message string, now metav1.Time) corev1.NodeCondition {
	return corev1.NodeCondition{Type: kind, Status: value, Reason: reason, Message: message,
		LastHeartbeatTime: now, LastTransitionTime: now}
}

// finalDeleter stands between the library and the API server: where the library would delete a pod's object at once,
// the pod's instance writes its final status first.
type finalDeleter struct {
	corev1client.PodsGetter
	eci *ECI
}

// Pods implements corev1client.PodsGetter.
func (d finalDeleter) Pods(namespace string) corev1client.PodInterface {
	return finalDeleterOf{d.PodsGetter.Pods(namespace), namespace, d.eci}
}

type finalDeleterOf struct {
	corev1client.PodInterface
	namespace string
	eci       *ECI
}

// Delete implements corev1client.PodInterface.
func (d finalDeleterOf) Delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	instance := d.eci.Instance(d.namespace, name)
	if instance == nil || options.Preconditions == nil || string(*options.Preconditions.UID) != string(instance.pod.UID) {
		return d.PodInterface.Delete(ctx, name, options)
	}
	instance.Delete(options.GracePeriodSeconds)
	return nil
}
