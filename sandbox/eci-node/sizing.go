package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Offer is one size that a pod would take: a step of the ladder, or an ECS type by its name.
type Offer struct {
	Spec    Spec
	ECSType string // empty for a size by vCPU and memory
	ByUser  bool   // named by eci-use-specs
}

// Name is how ECI writes the size: `2.0-4.0Gi`, or the ECS type.
func (o Offer) Name() string {
	if o.ECSType != "" {
		return o.ECSType
	}
	return decimal(o.Spec.VCPU) + "-" + decimal(o.Spec.MemoryGiB) + "Gi"
}

// decimal writes a number with at least one place, as ECI's annotations do.
func decimal(value float64) string {
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// defaultSpec is what a pod gets that asks for nothing.
var defaultSpec = Spec{2, 4}

const maximumUseSpecs = 5

// Offers lists the sizes that ECI would try for a pod, in order: those the user names; else the sum of the limits,
// else of the requests, else 2 vCPU and 4 GiB, rounded up the ladder.
func Offers(pod *corev1.Pod, ladder Ladder) ([]Offer, error) {
	if named := pod.Annotations[readUseSpecs]; named != "" {
		return namedOffers(named, ladder)
	}
	asked := AskedSpec(pod)
	rounded, ok := ladder.RoundUp(asked)
	if !ok {
		return nil, fmt.Errorf("no ECI instance holds %s vCPU and %s GiB", decimal(asked.VCPU), decimal(asked.MemoryGiB))
	}
	return []Offer{{Spec: rounded}}, nil
}

// AskedSpec sums what the containers ask for. An init container runs before the others, so it counts only where it
// asks for more than their sum (assumed: the vendor's pages do not say).
func AskedSpec(pod *corev1.Pod) Spec {
	containers := countedContainers(pod.Spec.Containers)
	initContainers := countedContainers(pod.Spec.InitContainers)
	for _, list := range []func(corev1.ResourceRequirements) corev1.ResourceList{limitsOf, requestsOf} {
		sum, any := sumOf(containers, list)
		for _, container := range initContainers {
			alone, named := sumOf([]corev1.Container{container}, list)
			sum.VCPU, sum.MemoryGiB = max(sum.VCPU, alone.VCPU), max(sum.MemoryGiB, alone.MemoryGiB)
			any = any || named
		}
		if any {
			return sum
		}
	}
	return defaultSpec
}

func limitsOf(resources corev1.ResourceRequirements) corev1.ResourceList   { return resources.Limits }
func requestsOf(resources corev1.ResourceRequirements) corev1.ResourceList { return resources.Requests }

func sumOf(containers []corev1.Container, list func(corev1.ResourceRequirements) corev1.ResourceList) (Spec, bool) {
	sum, any := Spec{}, false
	for _, container := range containers {
		resources := list(container.Resources)
		if cpu, ok := resources[corev1.ResourceCPU]; ok {
			sum.VCPU, any = sum.VCPU+cpu.AsApproximateFloat64(), true
		}
		if memory, ok := resources[corev1.ResourceMemory]; ok {
			sum.MemoryGiB, any = sum.MemoryGiB+memory.AsApproximateFloat64()/(1<<30), true
		}
	}
	return sum, any
}

// countedContainers leaves out those that ECI is told to ignore.
func countedContainers(containers []corev1.Container) []corev1.Container {
	counted := []corev1.Container{}
	for _, container := range containers {
		if !strings.EqualFold(plainVariable(container, envResourceIgnore), "true") {
			counted = append(counted, container)
		}
	}
	return counted
}

func plainVariable(container corev1.Container, name string) string {
	for _, variable := range container.Env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}

var sizePattern = regexp.MustCompile(`^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)Gi$`)

func namedOffers(text string, ladder Ladder) ([]Offer, error) {
	names := strings.Split(text, ",")
	if len(names) > maximumUseSpecs {
		return nil, fmt.Errorf("%s lists %d sizes, at most %d are allowed", readUseSpecs, len(names), maximumUseSpecs)
	}
	offers := []Offer{}
	for _, name := range names {
		offer, err := namedOffer(strings.TrimSpace(name), ladder)
		if err != nil {
			return nil, err
		}
		offers = append(offers, offer)
	}
	return offers, nil
}

func namedOffer(name string, ladder Ladder) (Offer, error) {
	if strings.HasPrefix(name, "ecs.") {
		spec, err := ecsTypeSpec(name)
		return Offer{Spec: spec, ECSType: name, ByUser: true}, err
	}
	match := sizePattern.FindStringSubmatch(name)
	if match == nil {
		return Offer{}, fmt.Errorf("%s: %q is neither <vCPU>-<memory>Gi nor an ECS type", readUseSpecs, name)
	}
	vcpu, errVCPU := strconv.ParseFloat(match[1], 64)
	memory, errMemory := strconv.ParseFloat(match[2], 64)
	if errVCPU != nil || errMemory != nil {
		return Offer{}, fmt.Errorf("%s: %q has a number that is too long", readUseSpecs, name)
	}
	spec, ok := ladder.RoundUp(Spec{vcpu, memory})
	if !ok {
		return Offer{}, fmt.Errorf("%s: no ECI instance holds %q", readUseSpecs, name)
	}
	return Offer{Spec: spec, ByUser: true}, nil
}

var ecsTypePattern = regexp.MustCompile(`^ecs\.([a-z]+)\d*[a-z]*(?:-[a-z0-9]+)?\.(\d*)(x?)large$`)

// gibPerVCPU is the ratio of an ECS family by its letters (compute 2, general 4, memory 8).
var gibPerVCPU = map[string]float64{"c": 2, "hfc": 2, "sn": 2, "g": 4, "hfg": 4, "r": 8, "hfr": 8, "u": 4, "ic": 1, "se": 8,
	"d": 4, "i": 8, "re": 16}

// ecsTypeSpec reads the size out of an ECS type's name.
func ecsTypeSpec(name string) (Spec, error) {
	match := ecsTypePattern.FindStringSubmatch(name)
	if match == nil || gibPerVCPU[match[1]] == 0 {
		return Spec{}, fmt.Errorf("%s: ECS type %q is not known", readUseSpecs, name)
	}
	vcpu := 2.0
	if match[3] == "x" {
		vcpu = 4
		if match[2] != "" {
			times, err := strconv.ParseFloat(match[2], 64)
			if err != nil {
				return Spec{}, err
			}
			vcpu *= times
		}
	}
	return Spec{vcpu, vcpu * gibPerVCPU[match[1]]}, nil
}
