package main

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PlayedClock tells the time that the practice node writes into Kubernetes: real time, stretched by one factor
// from the moment the node program started. With factor 60 a real second is a played minute, so that a test can
// see four hours of waiting in four minutes. What the API server stamps itself stays real.
type PlayedClock struct {
	start  time.Time
	factor float64
}

// NewPlayedClock starts a clock that runs factor times as fast as real time (factor > 0).
func NewPlayedClock(start time.Time, factor float64) PlayedClock {
	return PlayedClock{start: start, factor: factor}
}

// At is the played moment of a real one.
func (c PlayedClock) At(real time.Time) time.Time {
	return c.start.Add(time.Duration(float64(real.Sub(c.start)) * c.factor))
}

// Now is the played moment of this instant.
func (c PlayedClock) Now() time.Time { return c.At(time.Now()) }

// Stamp is Now in the form that API objects carry.
func (c PlayedClock) Stamp() metav1.Time { return metav1.NewTime(c.Now()) }

// Real is how long a played duration takes on the wall.
func (c PlayedClock) Real(played time.Duration) time.Duration {
	return time.Duration(float64(played) / c.factor)
}

// Sleep waits a played duration; it returns early with the context's error.
func (c PlayedClock) Sleep(ctx context.Context, played time.Duration) error {
	if played <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(c.Real(played))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
