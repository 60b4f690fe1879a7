package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Journal is a file in which the nodes write, in played time and a JSON line each, what they really did: which
// instances were made, what became of them, and when their charge ended. Alibaba's API is played from it (see
// sandbox/alibaba/journal.py), so that API and bill tell of the same instances as Kubernetes does, but not by way of
// Kubernetes. It is only added to, and outlives the program. Values of variables are left out: they hold secrets.
// A nil journal keeps nothing.
type Journal struct {
	clock PlayedClock
	mu    sync.Mutex
	file  *os.File
}

// Kinds of lines.
const (
	lineClock    = "clock"    // a program began: its clock, and all earlier instances are gone
	lineInstance = "instance" // an instance was made, and its charge began
	lineStatus   = "status"
	lineEvent    = "event"
	lineCharged  = "charged" // its charge ended
	lineRemoved  = "removed" // its pod is gone
)

type journalLine struct {
	At       time.Time         `json:"at"`
	Kind     string            `json:"kind"`
	UID      types.UID         `json:"uid,omitempty"`
	Factor   float64           `json:"factor,omitempty"`
	Region   string            `json:"region,omitempty"`
	Instance *journalInstance  `json:"instance,omitempty"`
	Status   *corev1.PodStatus `json:"status,omitempty"`
	Event    *journalEvent     `json:"event,omitempty"`
}

type journalInstance struct {
	ID            string             `json:"id"`
	Namespace     string             `json:"namespace"`
	Pod           string             `json:"pod"`
	Zone          string             `json:"zone"`
	Address       string             `json:"address"`
	ENI           string             `json:"eni"`
	Spec          string             `json:"spec"`
	VCPU          float64            `json:"vcpu"`
	MemoryGiB     float64            `json:"memory_gib"`
	ECSType       string             `json:"ecs_type"`
	Spot          bool               `json:"spot"`
	Category      string             `json:"category"`
	AcceptedAt    time.Time          `json:"accepted_at"` // the order came; looking for room began
	RestartPolicy string             `json:"restart_policy"`
	Annotations   map[string]string  `json:"annotations"`
	Owner         string             `json:"owner,omitempty"`  // KIND/NAME
	Script        json.RawMessage    `json:"script,omitempty"` // of a hollow pod; what it uses is told by the stand-in of ECI's API
	Containers    []journalContainer `json:"containers"`
}

type journalContainer struct {
	Name      string  `json:"name"`
	Image     string  `json:"image"`
	Init      bool    `json:"init,omitempty"`
	VCPU      float64 `json:"vcpu"`
	MemoryGiB float64 `json:"memory_gib"`
}

type journalEvent struct {
	Type      string `json:"type"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
	Component string `json:"component"`
}

// OpenJournal opens or makes the file, readable by its owner only, and tells that a program begins.
func OpenJournal(path, region string, clock PlayedClock) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := endTornLine(path, file); err != nil {
		return nil, err
	}
	journal := &Journal{clock: clock, file: file}
	journal.write(journalLine{At: clock.start.UTC(), Kind: lineClock, Factor: clock.factor, Region: region})
	return journal, nil
}

// endTornLine ends a line that a killed program left unfinished, so that it spoils no other.
func endTornLine(path string, file *os.File) error {
	content, err := os.Open(path)
	if err != nil {
		return err
	}
	defer content.Close()
	size, err := content.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := content.ReadAt(last, size-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.WriteString("\n")
	return err
}

func (j *Journal) write(line journalLine) {
	content, err := json.Marshal(line)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		_, err = j.file.Write(append(content, '\n')) // one call: a reader sees whole lines, but for the last
	}
	if err != nil {
		slog.Warn("the journal is incomplete", "error", err)
	}
}

// Note writes a line about an instance that has been made; of others there is nothing to tell.
func (j *Journal) Note(kind string, instance *Instance) {
	if j == nil || !instance.made() {
		return
	}
	line := journalLine{At: instance.stamp().UTC(), Kind: kind, UID: instance.pod.UID}
	switch kind {
	case lineInstance:
		line.Instance = instance.journalEntry()
	case lineStatus:
		status, _ := instance.status.Read()
		line.Status = &status
	}
	j.write(line)
}

// NoteEvent writes an event of an instance; also one that came before it was made.
func (j *Journal) NoteEvent(instance *Instance, text EventText, args ...any) {
	if j == nil {
		return
	}
	j.write(journalLine{At: instance.stamp().UTC(), Kind: lineEvent, UID: instance.pod.UID, Event: &journalEvent{
		Type: text.Type, Reason: text.Reason, Message: fmt.Sprintf(text.Message, args...), Component: text.Component}})
}

func (i *Instance) made() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ticket.InstanceID != ""
}

func (i *Instance) journalEntry() *journalInstance {
	status, _ := i.status.Read()
	accepted := i.pod.CreationTimestamp.Time
	if status.StartTime != nil {
		accepted = status.StartTime.Time
	}
	owner := ""
	if len(i.pod.OwnerReferences) > 0 {
		owner = i.pod.OwnerReferences[0].Kind + "/" + i.pod.OwnerReferences[0].Name
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	entry := &journalInstance{ID: i.ticket.InstanceID, Namespace: i.pod.Namespace, Pod: i.pod.Name, Zone: i.zone(),
		Address: i.address, ENI: i.ticket.ENI, Spec: i.offer.Name(), VCPU: i.offer.Spec.VCPU,
		MemoryGiB: i.offer.Spec.MemoryGiB, ECSType: i.offer.ECSType, Spot: i.spot, Category: i.order.Category,
		AcceptedAt: accepted.UTC(), RestartPolicy: string(i.pod.Spec.RestartPolicy), Annotations: map[string]string{},
		Owner: owner}
	for key, value := range i.pod.Annotations {
		if strings.HasPrefix(key, "k8s.aliyun.com/") {
			entry.Annotations[key] = value
		}
	}
	if script := i.pod.Annotations[readHollow]; script != "" && json.Valid([]byte(script)) {
		entry.Script = json.RawMessage(script)
	}
	entry.Containers = append(journalContainers(i.pod.Spec.InitContainers, true),
		journalContainers(i.pod.Spec.Containers, false)...)
	return entry
}

func journalContainers(list []corev1.Container, init bool) []journalContainer {
	entries := []journalContainer{}
	for _, container := range list {
		size, named := sumOf([]corev1.Container{container}, limitsOf)
		if !named {
			size, _ = sumOf([]corev1.Container{container}, requestsOf)
		}
		entries = append(entries, journalContainer{container.Name, container.Image, init, size.VCPU, size.MemoryGiB})
	}
	return entries
}
