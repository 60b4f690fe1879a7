package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A program that was killed in the middle of a line spoils that line and no other.
func TestTheJournalOutlivesAKilledProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	if err := os.WriteFile(path, []byte("{\"at\": \"2026-"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := OpenJournal(path, "cn-hangzhou", NewPlayedClock(time.Now(), 60)); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want the torn one and two that were begun: %q", len(lines), lines)
	}
	for _, line := range lines[1:] {
		begun := journalLine{}
		if err := json.Unmarshal([]byte(line), &begun); err != nil || begun.Kind != lineClock || begun.Factor != 60 {
			t.Errorf("%q is no line of a clock: %v", line, err)
		}
	}
}
