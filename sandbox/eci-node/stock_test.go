package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func zoneInstance(t *testing.T, annotations notes, faults *Faults, others ...*Instance) *Instance {
	t.Helper()
	eci := &ECI{Settings: Settings{Region: "cn-hangzhou"}, Faults: faults, instances: map[string]*Instance{}}
	for _, other := range others {
		eci.instances[other.pod.Name] = other
	}
	pod := podOf(annotations, asking("2/4Gi", ""))
	pod.Spec.NodeName = nodePrefix + "cn-hangzhou-i"
	order, err := ReadOrder(pod, eci.Region)
	if err != nil {
		t.Fatal(err)
	}
	return &Instance{eci: eci, pod: pod, order: order}
}

// Each row takes something out of stock, or limits the quota, and says what a pod of 2 vCPU and 4 GiB gets.
func TestWhereRoomIsFound(t *testing.T) {
	yes, no := true, false
	spot := notes{readSpotStrategy: "SpotAsPriceGo"}
	fallback := notes{readSpotStrategy: "SpotAsPriceGo", readSpotFallback: "true"}
	sizes := notes{readUseSpecs: "2-4Gi,ecs.c6.large,4-8Gi"}
	rows := map[string]struct {
		annotations notes
		noStock     []StockFault
		quota       float64
		want        string // size, and how it is paid; or the condition's reason
	}{
		"everything in stock":               {nil, nil, 0, "2.0-4.0Gi"},
		"nothing in stock":                  {nil, []StockFault{{}}, 0, "ContainerGroup.NoStock"},
		"a zone that is closed":             {nil, []StockFault{{Reason: "StockClose"}}, 0, "ContainerGroup.StockClose"},
		"an empty account":                  {nil, []StockFault{{Reason: "InsufficientBalance"}}, 0, "ContainerGroup.InsufficientBalance"},
		"another zone out of stock":         {nil, []StockFault{{Zone: "cn-hangzhou-j"}}, 0, "2.0-4.0Gi"},
		"this zone out of stock":            {nil, []StockFault{{Zone: "cn-hangzhou-i"}}, 0, "ContainerGroup.NoStock"},
		"spot out of stock":                 {nil, []StockFault{{Spot: &yes}}, 0, "2.0-4.0Gi"},
		"spot out of stock, spot wanted":    {spot, []StockFault{{Spot: &yes}}, 0, "ContainerGroup.NoStock"},
		"the same, falling back":            {fallback, []StockFault{{Spot: &yes}}, 0, "2.0-4.0Gi degraded"},
		"spot in stock":                     {fallback, []StockFault{{Spot: &no}}, 0, "2.0-4.0Gi spot"},
		"the first size out of stock":       {sizes, []StockFault{{Spec: "2.0-4.0Gi"}}, 0, "ecs.c6.large"},
		"the first two out of stock":        {sizes, []StockFault{{Spec: "2-4Gi"}, {Spec: "ecs.c6.large"}}, 0, "4.0-8.0Gi"},
		"a quota that holds it":             {nil, nil, 4, "2.0-4.0Gi"},
		"a quota that is used up":           {nil, nil, 3, "ContainerGroup.QuotaExceeded"},
		"a quota that holds no size by now": {sizes, nil, 1, "ContainerGroup.QuotaExceeded"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			faults := NewFaults(EndingKilled)
			faults.SetQuota(row.quota)
			for _, fault := range row.noStock {
				if err := faults.AddNoStock(fault); err != nil {
					t.Fatal(err)
				}
			}
			running := &Instance{pod: &corev1.Pod{}, charged: true, offer: Offer{Spec: Spec{2, 4}}}
			found, problem, ok := zoneInstance(t, row.annotations, faults, running).findRoom()
			got := problem.condition
			if ok {
				got = found.offer.Name() + map[bool]string{true: " spot"}[found.spot] + map[bool]string{true: " degraded"}[found.degraded]
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// A fault names an image as the pod does, in full, or by a pattern.
func TestPullFaultsAreFoundByNameAndPattern(t *testing.T) {
	for pattern, want := range map[string]bool{"alpine": true, "docker.io/library/alpine:latest": true, "*pine": true,
		"alpine:3": false, "*/alpine": false} {
		if got := (PullFault{Image: pattern}).fits("alpine"); got != want {
			t.Errorf("%q: got %t, want %t", pattern, got, want)
		}
	}
}

// A misspelt reason changes nothing.
func TestAnUnknownReasonIsRefused(t *testing.T) {
	faults := NewFaults(EndingKilled)
	if err := faults.AddNoStock(StockFault{Reason: "SoldOut"}); err == nil || len(faults.Report().NoStock) != 0 {
		t.Errorf("the faults are %+v", faults.Report())
	}
}

// A misspelt ending changes nothing.
func TestAnUnknownStreamEndingIsRefused(t *testing.T) {
	faults := NewFaults(EndingKilled)
	if err := faults.SetStreamEnding("sudden"); err == nil || faults.streamEnding() != EndingKilled {
		t.Errorf("the ending was set to %q", faults.streamEnding())
	}
}
