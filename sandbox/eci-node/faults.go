package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// StockFault says what cannot be had; an empty field fits everything.
type StockFault struct {
	Zone   string `json:"zone,omitempty"`
	Spec   string `json:"spec,omitempty"` // `4.0-8.0Gi` or an ECS type
	Spot   *bool  `json:"spot,omitempty"`
	Reason string `json:"reason,omitempty"` // one of refusalEvents; NoStock if empty
}

// refusalEvents are the reasons why ECI refuses a size, and how it words them.
var refusalEvents = map[string]EventText{
	eventNoStock.Reason:      eventNoStock,
	eventStockExhaust.Reason: eventStockExhaust,
	eventStockClose.Reason:   eventStockClose,
	eventBalance.Reason:      eventBalance,
}

func (f StockFault) fits(zone string, offer Offer, spot bool) bool {
	return (f.Zone == "" || f.Zone == zone) && (f.Spec == "" || sameSize(f.Spec, offer)) && (f.Spot == nil || *f.Spot == spot)
}

// sameSize compares `4-8Gi` and `4.0-8.0Gi` alike.
func sameSize(name string, offer Offer) bool {
	match := sizePattern.FindStringSubmatch(name)
	if match == nil {
		return name == offer.Name()
	}
	own := sizePattern.FindStringSubmatch(offer.Name())
	return own != nil && trimZero(own[1]) == trimZero(match[1]) && trimZero(own[2]) == trimZero(match[2])
}

func trimZero(number string) string { return strings.TrimSuffix(number, ".0") }

// PullFault slows down or refuses the images whose name fits a pattern, in which * stands for anything.
type PullFault struct {
	Image        string  `json:"image"`
	DelaySeconds float64 `json:"delay_seconds,omitempty"` // played
	Failure      string  `json:"failure,omitempty"`       // the runtime's words; empty lets the pull succeed
}

func (f PullFault) fits(image string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(f.Image), `\*`, ".*")
	if matched, err := regexp.MatchString("^"+pattern+"$", image); err == nil && matched {
		return true
	}
	return f.Image == image || f.Image == fullImageName(image)
}

// StreamEnding is how the streams of an instance end that is taken away.
type StreamEnding string

// Which of these a real reclaim shows is not known, so it is a setting.
const (
	EndingKilled  StreamEnding = "killed"  // the processes are killed, streams report their exit codes
	EndingDropped StreamEnding = "dropped" // the connection is gone without a word
	EndingError   StreamEnding = "error"   // the stream ends with an error
)

// Faults is what tests ask the practice node to do wrong.
type Faults struct {
	mu        sync.Mutex
	noStock   []StockFault
	pulls     []PullFault
	quotaVCPU float64 // 0 is no quota
	ending    StreamEnding
}

// FaultReport is the state of all faults, as the control port shows it.
type FaultReport struct {
	NoStock      []StockFault `json:"no_stock"`
	Pulls        []PullFault  `json:"pulls"`
	QuotaVCPU    float64      `json:"quota_vcpu"`
	StreamEnding StreamEnding `json:"stream_ending"`
}

// NewFaults starts without any.
func NewFaults(ending StreamEnding) *Faults { return &Faults{ending: ending} }

// Report copies the state.
func (f *Faults) Report() FaultReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FaultReport{slices.Clone(f.noStock), slices.Clone(f.pulls), f.quotaVCPU, f.ending}
}

// AddNoStock takes something out of stock; ClearNoStock restocks everything.
func (f *Faults) AddNoStock(fault StockFault) error {
	if fault.Reason == "" {
		fault.Reason = eventNoStock.Reason
	}
	if _, known := refusalEvents[fault.Reason]; !known {
		return fmt.Errorf("reason %q is not one of %v", fault.Reason, slices.Sorted(maps.Keys(refusalEvents)))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noStock = append(f.noStock, fault)
	return nil
}

// ClearNoStock restocks everything.
func (f *Faults) ClearNoStock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noStock = nil
}

// AddPull slows or breaks the pull of some images.
func (f *Faults) AddPull(fault PullFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls = append(f.pulls, fault)
}

// ClearPulls lets all images be pulled again.
func (f *Faults) ClearPulls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls = nil
}

// SetQuota limits the vCPUs that all instances may have together; 0 lifts the limit.
func (f *Faults) SetQuota(vcpu float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quotaVCPU = vcpu
}

// SetStreamEnding chooses how reclaimed instances' streams end.
func (f *Faults) SetStreamEnding(ending StreamEnding) error {
	if !slices.Contains([]StreamEnding{EndingKilled, EndingDropped, EndingError}, ending) {
		return fmt.Errorf("stream ending %q is not one of killed, dropped, error", ending)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ending = ending
	return nil
}

// outOfStock is why a size cannot be had; an empty reason means that it can.
func (f *Faults) outOfStock(zone string, offer Offer, spot bool) (reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.noStock {
		if fault.fits(zone, offer, spot) {
			return fault.Reason
		}
	}
	return ""
}

func (f *Faults) quota() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quotaVCPU
}

func (f *Faults) streamEnding() StreamEnding {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ending
}

// pull is what happens to the pull of an image: a further delay, and a failure or none.
func (f *Faults) pull(image string) (time.Duration, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var delay time.Duration
	failure := ""
	for _, fault := range f.pulls {
		if fault.fits(image) {
			delay += time.Duration(fault.DelaySeconds * float64(time.Second))
			failure = firstOf(fault.Failure, failure)
		}
	}
	return delay, failure
}
