package main

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The written annotations look like those recorded on a real pod.
func TestAnnotationsOfARunningPodHaveTheShapesOfARealOne(t *testing.T) {
	ticket := NewTicket("cn-shenzhen")
	written := ticket.created(Offer{Spec: Spec{2, 4}}, "", "cn-shenzhen-d", "cn-shenzhen", "v1.36.3-aliyun.1")
	for key, pattern := range map[string]string{
		writtenInstanceID: `^eci-wz9[0-9a-z]{17}$`,
		writtenSpec:       `^2\.0-4\.0Gi$`,
		writtenCPU:        `^2\.0$`,
		writtenMemory:     `^4\.0$`,
		writtenZone:       `^cn-shenzhen-d$`,
		writtenRequestID:  `^[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-A[0-9A-F]{3}-[0-9A-F]{12}$`,
		writtenK8sVersion: `-aliyun\.`,
		writtenProvider:   `^done$`,
		writtenStreamPort: `^10250$`,
	} {
		if !regexp.MustCompile(pattern).MatchString(written[key]) {
			t.Errorf("%s is %q, which is not like %s", key, written[key], pattern)
		}
	}
	if _, ok := written[writtenCategory]; ok {
		t.Error("a compute category is written that nobody asked for")
	}
}

// Every event on a pod is Normal or Warning, and signed by ECI or by the kubelet.
func TestEveryEventIsSignedAndTyped(t *testing.T) {
	for _, event := range []EventText{eventUserSpec, eventMatchedSpec, eventCacheHit, eventCacheMissed, eventCacheCreated, eventNoStock,
		eventQuota, eventSpotDegraded, eventSpotRelease, eventOOM, eventStopCharge, eventPulling, eventPulled, eventPresent,
		eventPullFailed, eventMounted, eventMountFailed, eventKilling, eventRestart, eventDeadline} {
		if event.Type != corev1.EventTypeNormal && event.Type != corev1.EventTypeWarning {
			t.Errorf("%s has type %q", event.Reason, event.Type)
		}
		if event.Component != componentECI && event.Component != componentKubelet {
			t.Errorf("%s is signed by %q", event.Reason, event.Component)
		}
	}
}

// What others have written on the pod survives, and another pod of the same name is not touched.
func TestAStatusPatchTouchesOnlyWhatChangedAndOnlyThisPod(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	before := &corev1.Pod{}
	setCondition(&before.Status, now, "DisruptionTarget", corev1.ConditionTrue, "Evicted", "by somebody else")
	after := before.DeepCopy()
	after.Annotations = map[string]string{writtenInstanceID: "eci-1"}
	after.Status.Phase = corev1.PodRunning
	setCondition(&after.Status, now, corev1.PodReady, corev1.ConditionTrue, "", "")
	patch, err := statusPatch("uid-1", before, after)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]any
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	if got["metadata"]["uid"] != "uid-1" || got["metadata"]["annotations"].(map[string]any)[writtenInstanceID] != "eci-1" {
		t.Errorf("the patch's metadata is %v", got["metadata"])
	}
	conditions := got["status"]["conditions"].([]any)
	if len(conditions) != 1 || conditions[0].(map[string]any)["type"] != "Ready" || got["status"]["phase"] != "Running" {
		t.Errorf("the patch's status is %v", got["status"])
	}
	if again, err := statusPatch("uid-1", after, after); err != nil || again != nil {
		t.Errorf("nothing has changed, and the patch is %s (%v)", again, err)
	}
}

// lastTransitionTime follows the status, not the reason.
func TestAConditionsMomentMovesOnlyWithItsStatus(t *testing.T) {
	first := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	later := metav1.NewTime(first.Add(time.Hour))
	status := &corev1.PodStatus{}
	setCondition(status, first, conditionCreated, corev1.ConditionFalse, "Creating", "")
	setCondition(status, later, conditionCreated, corev1.ConditionFalse, "ContainerGroup.NoStock", "")
	if got := status.Conditions[0]; !got.LastTransitionTime.Equal(&first) || got.Reason != "ContainerGroup.NoStock" {
		t.Errorf("the condition is %+v", got)
	}
	setCondition(status, later, conditionCreated, corev1.ConditionTrue, "", "")
	if got := status.Conditions[0]; !got.LastTransitionTime.Equal(&later) || len(status.Conditions) != 1 {
		t.Errorf("the condition is %+v", got)
	}
}

// Played and real time agree at the start and differ by the factor.
func TestThePlayedClockRunsFromItsStart(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := NewPlayedClock(start, 60)
	if got := clock.At(start.Add(time.Second)); !got.Equal(start.Add(time.Minute)) {
		t.Errorf("a real second later it is %s", got)
	}
	if got := clock.Real(240 * time.Minute); got != 4*time.Minute {
		t.Errorf("240 played minutes take %s", got)
	}
}

// The definition that is installed is that of ECI: cluster-scoped, by its public name.
func TestTheManifestsAreReadable(t *testing.T) {
	var definition struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct{ Scope string }
	}
	if err := yaml.Unmarshal([]byte(imageCacheManifest), &definition); err != nil {
		t.Fatal(err)
	}
	if definition.Metadata.Name != "imagecaches.eci.alibabacloud.com" || definition.Spec.Scope != "Cluster" {
		t.Errorf("the definition is %+v", definition)
	}
}
