package main

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// PodFacts is what a container may ask about its own pod through the downward API.
type PodFacts struct {
	pod  *corev1.Pod
	ip   string
	spec Spec // what a container without a limit sees as its limit: the instance's size
}

// Field answers a fieldRef.
func (f PodFacts) Field(path string) (string, error) {
	if key, ok := subscript(path, "metadata.labels"); ok {
		return f.pod.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return f.pod.Annotations[key], nil
	}
	answers := map[string]string{
		"metadata.name":           f.pod.Name,
		"metadata.namespace":      f.pod.Namespace,
		"metadata.uid":            string(f.pod.UID),
		"metadata.labels":         quotedPairs(f.pod.Labels),
		"metadata.annotations":    quotedPairs(f.pod.Annotations),
		"spec.nodeName":           f.pod.Spec.NodeName,
		"spec.serviceAccountName": f.pod.Spec.ServiceAccountName,
		"status.hostIP":           f.ip,
		"status.hostIPs":          f.ip,
		"status.podIP":            f.ip,
		"status.podIPs":           f.ip,
	}
	answer, ok := answers[path]
	if !ok {
		return "", fmt.Errorf("fieldRef %q is not known", path)
	}
	return answer, nil
}

// Resource answers a resourceFieldRef.
func (f PodFacts) Resource(selector *corev1.ResourceFieldSelector, own string) (string, error) {
	name := selector.ContainerName
	if name == "" {
		name = own
	}
	for _, container := range append(append([]corev1.Container{}, f.pod.Spec.InitContainers...), f.pod.Spec.Containers...) {
		if container.Name == name {
			return f.quantity(selector, container.Resources)
		}
	}
	return "", fmt.Errorf("resourceFieldRef names container %q, which the pod does not have", name)
}

func (f PodFacts) quantity(selector *corev1.ResourceFieldSelector, asked corev1.ResourceRequirements) (string, error) {
	list, kind, found := asked.Limits, "", false
	if kind, found = strings.CutPrefix(selector.Resource, "requests."); found {
		list = asked.Requests
	} else if kind, found = strings.CutPrefix(selector.Resource, "limits."); !found {
		return "", fmt.Errorf("resourceFieldRef %q is not known", selector.Resource)
	}
	value, given := list[corev1.ResourceName(kind)]
	if !given {
		value = f.wholeInstance(kind)
	}
	divisor := selector.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	return strconv.FormatInt(int64(math.Ceil(value.AsApproximateFloat64()/divisor.AsApproximateFloat64())), 10), nil
}

func (f PodFacts) wholeInstance(kind string) resource.Quantity {
	if kind == string(corev1.ResourceCPU) {
		return *resource.NewMilliQuantity(int64(f.spec.VCPU*1000), resource.DecimalSI)
	}
	return *resource.NewQuantity(int64(f.spec.MemoryGiB*(1<<30)), resource.BinarySI)
}

func subscript(path, of string) (string, bool) {
	inner, ok := strings.CutPrefix(path, of+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(inner, "']")
}

func quotedPairs(pairs map[string]string) string {
	lines := make([]string, 0, len(pairs))
	for key, value := range pairs {
		lines = append(lines, key+"="+strconv.Quote(value))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
