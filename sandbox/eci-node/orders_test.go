package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type notes map[string]string

// asking is a container with `requests` and `limits`, written `2/4Gi`; an empty text asks for nothing.
func asking(requests, limits string, env ...corev1.EnvVar) corev1.Container {
	return corev1.Container{Name: "c", Image: "alpine", Env: env,
		Resources: corev1.ResourceRequirements{Requests: quantities(requests), Limits: quantities(limits)}}
}

func quantities(text string) corev1.ResourceList {
	cpu, memory, ok := strings.Cut(text, "/")
	if !ok {
		return nil
	}
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func podOf(annotations notes, containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ci", Name: "job", Annotations: annotations},
		Spec: corev1.PodSpec{Containers: containers}}
}

var ignored = corev1.EnvVar{Name: envResourceIgnore, Value: "TRUE"}

// Each row is one rule by which ECI reads a pod, for the region cn-hangzhou.
func TestWhatAPodOrders(t *testing.T) {
	withInit := podOf(nil, asking("1/2Gi", ""))
	withInit.Spec.InitContainers = []corev1.Container{asking("2/1Gi", "")}
	rows := map[string]struct {
		pod  *corev1.Pod
		want string // the sizes in the order in which they are tried, or a part of the refusal
	}{
		"nothing asked":                   {podOf(nil, asking("", "")), "2.0-4.0Gi"},
		"requests are summed":             {podOf(nil, asking("2/6Gi", ""), asking("1/1Gi", ""), asking("250m/512Mi", "")), "4.0-8.0Gi"},
		"limits win over requests":        {podOf(nil, asking("8/16Gi", "1/2Gi"), asking("8/16Gi", "")), "1.0-2.0Gi"},
		"an ignored container":            {podOf(nil, asking("2/4Gi", ""), asking("2/4Gi", ""), asking("250m/512Mi", "", ignored)), "4.0-8.0Gi"},
		"the same, counted":               {podOf(nil, asking("2/4Gi", ""), asking("2/4Gi", ""), asking("250m/512Mi", "")), "6.0-10.0Gi"},
		"an init container, alone":        {withInit, "2.0-2.0Gi"},
		"sizes by name":                   {podOf(notes{readUseSpecs: "2-4Gi, 4-8Gi,ecs.c6.xlarge"}, asking("16/32Gi", "")), "2.0-4.0Gi 4.0-8.0Gi ecs.c6.xlarge"},
		"six sizes by name":               {podOf(notes{readUseSpecs: "2-4Gi,2-4Gi,2-4Gi,2-4Gi,2-4Gi,2-4Gi"}), "at most 5"},
		"a size off the ladder":           {podOf(notes{readUseSpecs: "3-6Gi"}), "4.0-6.0Gi"},
		"no size at all":                  {podOf(notes{readUseSpecs: "2/4Gi"}), "neither"},
		"an ECS type that is not one":     {podOf(notes{readUseSpecs: "ecs.zz9.large"}), "not known"},
		"spot has its own table":          {podOf(notes{readSpotStrategy: "SpotAsPriceGo"}, asking("3/6Gi", "")), "4.0-8.0Gi"},
		"a spot strategy that is not one": {podOf(notes{readSpotStrategy: "spot"}), "SpotAsPriceGo"},
		"spot, falling back":              {podOf(notes{readSpotStrategy: "SpotAsPriceGo", readSpotFallback: "true"}, asking("3/6Gi", "")), "4.0-8.0Gi 4.0-6.0Gi"},
		"economy":                         {podOf(notes{readComputeCategory: "economy"}, asking("500m/1Gi", "")), "0.5-1.0Gi"},
		"general begins at one vCPU":      {podOf(notes{readComputeCategory: "general"}, asking("500m/1Gi", "")), "1.0-2.0Gi"},
		"economy ends at eight vCPU":      {podOf(notes{readComputeCategory: "economy"}, asking("9/16Gi", "")), "no ECI instance holds"},
		"economy, else general":           {podOf(notes{readComputeCategory: "economy,general"}, asking("9/16Gi", "")), "12.0-24.0Gi"},
		"a pending limit that is too low": {podOf(notes{readMaxPending: "9"}), "from 10 to 1440"},
		"a fail strategy that is not one": {podOf(notes{readFailStrategy: "fail-never"}), "fail-back"},
		"more than the largest":           {podOf(nil, asking("65/8Gi", "")), "no ECI instance holds 65.0 vCPU"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			order, err := ReadOrder(row.pod, "cn-hangzhou")
			got := []string{}
			for _, try := range order.attempts() {
				got = append(got, try.offer.Name())
			}
			if err != nil {
				if !strings.Contains(err.Error(), row.want) {
					t.Errorf("refused with %q, which does not say %q", err, row.want)
				}
			} else if strings.Join(got, " ") != row.want {
				t.Errorf("got %q, want %q", strings.Join(got, " "), row.want)
			}
		})
	}
}

// The defaults, and each further annotation, reach the order.
func TestWhatElseAPodOrders(t *testing.T) {
	plain, err := ReadOrder(podOf(nil), "cn-hangzhou")
	if err != nil {
		t.Fatal(err)
	}
	if plain.MaxPending != 240*time.Minute || plain.FailFast || plain.Spot || !plain.AutoCache {
		t.Errorf("the defaults of an order are %+v", plain)
	}
	order, err := ReadOrder(podOf(notes{readMaxPending: "10", readFailStrategy: "fail-fast", readSpotStrategy: "SpotWithPriceLimit",
		readSpotDuration: "0", readSpotRelease: "api-evict", readAutoImageCache: "false", readImageCacheID: "imc-1"}), "cn-hangzhou")
	if err != nil {
		t.Fatal(err)
	}
	if order.MaxPending != 10*time.Minute || !order.FailFast || !order.Spot || order.Protection != 0 || !order.EvictFirst ||
		order.AutoCache || order.CacheID != "imc-1" {
		t.Errorf("the annotations were read as %+v", order)
	}
}

// An ECS type's name tells its vCPUs and memory.
func TestSizesOfECSTypesByName(t *testing.T) {
	for name, want := range map[string]Spec{"ecs.c6.large": {2, 4}, "ecs.c7a.xlarge": {4, 8}, "ecs.g6.2xlarge": {8, 32},
		"ecs.r6e.4xlarge": {16, 128}, "ecs.hfc7.large": {2, 4}} {
		if got, err := ecsTypeSpec(name); err != nil || got != want {
			t.Errorf("%s: got %v (%v), want %v", name, got, err, want)
		}
	}
}
