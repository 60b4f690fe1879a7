package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	dto "github.com/prometheus/client_model/go"
	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// ZoneProvider is what the virtual-kubelet library sees of ECI: the pods of one node.
type ZoneProvider struct {
	eci  *ECI
	node string
	pods corev1listers.PodLister
}

// CreatePod implements node.PodLifecycleHandler.
func (p *ZoneProvider) CreatePod(ctx context.Context, pod *corev1.Pod) error {
	return p.eci.Create(ctx, pod)
}

// UpdatePod implements node.PodLifecycleHandler.
func (p *ZoneProvider) UpdatePod(_ context.Context, pod *corev1.Pod) error {
	if instance := p.eci.Instance(pod.Namespace, pod.Name); instance != nil {
		instance.Refresh(pod)
	}
	return nil
}

// DeletePod implements node.PodLifecycleHandler. The library calls it when a pod is to be deleted, and again when it
// has gone from the API server.
func (p *ZoneProvider) DeletePod(ctx context.Context, pod *corev1.Pod) error {
	instance := p.eci.Instance(pod.Namespace, pod.Name)
	if instance == nil || instance.pod.UID != pod.UID {
		return p.eci.removeObject(ctx, pod)
	}
	if current, err := p.pods.Pods(pod.Namespace).Get(pod.Name); gone(err) || (err == nil && current.UID != pod.UID) {
		go instance.Forget()
		return nil
	}
	instance.Delete(pod.DeletionGracePeriodSeconds)
	return nil
}

// GetPod implements node.PodLifecycleHandler.
func (p *ZoneProvider) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	instance := p.eci.Instance(namespace, name)
	if instance == nil {
		return nil, errdefs.NotFoundf("pod %s/%s has no instance", namespace, name)
	}
	if current, err := p.pods.Pods(namespace).Get(name); err == nil && current.UID != instance.pod.UID {
		return nil, errdefs.NotFoundf("the instance of pod %s/%s belonged to an earlier pod of that name", namespace, name)
	}
	return instance.Pod(), nil
}

// GetPodStatus implements node.PodLifecycleHandler.
func (p *ZoneProvider) GetPodStatus(ctx context.Context, namespace, name string) (*corev1.PodStatus, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return &pod.Status, nil
}

// GetPods implements node.PodLifecycleHandler.
func (p *ZoneProvider) GetPods(context.Context) ([]*corev1.Pod, error) {
	pods := []*corev1.Pod{}
	for _, instance := range p.eci.Instances(p.node) {
		pods = append(pods, instance.Pod())
	}
	return pods, nil
}

// NotifyPods implements node.PodNotifier. Nothing is notified: instances write their status themselves.
func (p *ZoneProvider) NotifyPods(context.Context, func(*corev1.Pod)) {}

// The methods below serve the kubelet's HTTP port, which all nodes of a process share.

func (e *ECI) containerOf(namespace, pod, name string) (*Instance, *Container, error) {
	instance := e.Instance(namespace, pod)
	if instance == nil {
		return nil, nil, errdefs.NotFoundf("pod %s/%s is not here", namespace, pod)
	}
	container := instance.container(name)
	if container == nil {
		return nil, nil, errdefs.NotFoundf("container %q in pod %q is waiting to start", name, pod)
	}
	return instance, container, nil
}

// GetContainerLogs serves `kubectl logs`.
func (e *ECI) GetContainerLogs(ctx context.Context, namespace, pod, name string, options api.ContainerLogOpts) (io.ReadCloser, error) {
	instance := e.Instance(namespace, pod)
	if instance == nil {
		return nil, errdefs.NotFoundf("pod %s/%s is not here", namespace, pod)
	}
	log := instance.log(name, options.Previous)
	if log == nil && options.Previous {
		return nil, errdefs.InvalidInputf("previous terminated container %q in pod %q not found", name, pod)
	}
	if log == nil {
		return nil, errdefs.InvalidInputf("container %q in pod %q is waiting to start", name, pod)
	}
	return log.Open(ctx, options, e.Clock.Now)
}

// RunInContainer serves `kubectl exec`.
func (e *ECI) RunInContainer(ctx context.Context, namespace, pod, name string, words []string, streams api.AttachIO) error {
	instance, container, err := e.containerOf(namespace, pod, name)
	if err != nil {
		return err
	}
	return instance.streamEnd(container.Exec(ctx, words, streams))
}

// AttachToContainer serves `kubectl attach`.
func (e *ECI) AttachToContainer(ctx context.Context, namespace, pod, name string, streams api.AttachIO) error {
	instance, container, err := e.containerOf(namespace, pod, name)
	if err != nil {
		return err
	}
	return instance.streamEnd(container.Attach(ctx, streams))
}

// PortForward serves `kubectl port-forward`.
func (e *ECI) PortForward(ctx context.Context, namespace, pod string, port int32, stream io.ReadWriteCloser) error {
	instance := e.Instance(namespace, pod)
	if instance == nil {
		return errdefs.NotFoundf("pod %s/%s is not here", namespace, pod)
	}
	instance.mu.Lock()
	network := instance.network
	instance.mu.Unlock()
	if network == nil {
		return errors.New("the pod is not running")
	}
	conn, err := network.Dial(ctx, port)
	if err != nil {
		return fmt.Errorf("the pod does not answer on port %d: %w", port, err)
	}
	pipe(stream, conn)
	return nil
}

// GetStatsSummary has nothing to say: ECI's virtual node serves no summary.
func (e *ECI) GetStatsSummary(context.Context) (*statsv1alpha1.Summary, error) {
	return &statsv1alpha1.Summary{}, nil
}

// GetMetricsResource has nothing to say either.
func (e *ECI) GetMetricsResource(context.Context) ([]*dto.MetricFamily, error) { return nil, nil }
