package main

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func scripted(text string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{readHollow: text}}}
}

// A script that cannot be played is refused, and a pod without one has none.
func TestScriptsAreChecked(t *testing.T) {
	good := `{"begin":"2026-11-25T09:00:00Z","factor":60,"instance":2,"pulled":20,"running":21,"end":90,"deleted":92,"ending":"oom"}`
	if script, err := ReadScript(scripted(good)); err != nil || script.Running != 21 {
		t.Errorf("a good script: %v, %v", script, err)
	}
	if script, err := ReadScript(&corev1.Pod{}); script != nil || err != nil {
		t.Errorf("no script: %v, %v", script, err)
	}
	for _, bad := range []string{
		`{`,
		`{"begin":"2026-11-25T09:00:00Z","factor":60,"ending":"vanishes"}`,
		`{"begin":"2026-11-25T09:00:00Z","factor":0,"ending":"deleted"}`,
		`{"factor":60,"ending":"deleted"}`,
		`{"begin":"2026-11-25T09:00:00Z","factor":60,"instance":20,"pulled":2,"running":21,"deleted":92,"ending":"deleted"}`,
		`{"begin":"2026-11-25T09:00:00Z","factor":60,"running":30,"end":20,"ending":"exit"}`,
	} {
		if _, err := ReadScript(scripted(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// The clock of a script stands where the script says, however late it got there; an early deletion cuts it short, a
// late one does not prolong it.
func TestScriptClockStandsOnTheScript(t *testing.T) {
	begin := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	clock := NewScriptClock(&Script{Begin: begin, Factor: 1000, Deleted: 30})
	if err := clock.Reach(context.Background(), 5); err != nil {
		t.Fatal(err)
	}
	if at := clock.Stamp().Time; !at.Equal(begin.Add(5 * time.Second)) {
		t.Errorf("after Reach(5): %s", at)
	}
	clock.since = time.Now().Add(-time.Hour)
	clock.Settle()
	if at := clock.Stamp().Time; !at.Equal(begin.Add(30 * time.Second)) {
		t.Errorf("after a late deletion: %s", at)
	}
	early := NewScriptClock(&Script{Begin: begin, Factor: 0.001, Deleted: 30})
	early.Settle()
	if at := early.Stamp().Time; at.Sub(begin) > time.Second {
		t.Errorf("after an early deletion: %s", at)
	}
}
