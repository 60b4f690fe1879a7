package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MemoryLimit is a memory cgroup around one container. Where the machine has no memory controller that this program
// may write, there is no limit, and MemoryLimitsUnavailable says why.
type MemoryLimit struct {
	folder  string
	version int
}

// cgroupParent finds, once, where cgroups for containers can be made.
var cgroupParent = sync.OnceValues(func() (cgroupPlace, error) { return findMemoryController("/sys/fs/cgroup") })

type cgroupPlace struct {
	folder  string
	version int
}

// MemoryLimitsUnavailable is the reason why containers cannot be limited here; nil if they can.
func MemoryLimitsUnavailable() error {
	_, err := cgroupParent()
	return err
}

func findMemoryController(root string) (cgroupPlace, error) {
	place := cgroupPlace{folder: filepath.Join(root, "memory"), version: 1}
	if controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		if !strings.Contains(string(controllers), "memory") {
			return cgroupPlace{}, errors.New("cgroup v2 has no memory controller here")
		}
		place = cgroupPlace{folder: root, version: 2}
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return cgroupPlace{}, fmt.Errorf("cgroup v2 cannot hand its memory controller down: %w", err)
		}
	}
	if _, err := os.Stat(filepath.Join(place.folder, "cgroup.procs")); err != nil {
		return cgroupPlace{}, errors.New("no cgroup with a memory controller is mounted")
	}
	trial := filepath.Join(place.folder, fmt.Sprintf("eci-node-trial-%d", os.Getpid()))
	if err := os.Mkdir(trial, 0o755); err != nil {
		return cgroupPlace{}, fmt.Errorf("cgroups cannot be written here: %w", err)
	}
	return place, os.Remove(trial)
}

// NewMemoryLimit makes the cgroup of a container; bytes 0 means no limit, and nil.
func NewMemoryLimit(containerID string, bytes int64) (*MemoryLimit, error) {
	place, err := cgroupParent()
	if err != nil || bytes <= 0 {
		return nil, nil
	}
	limit := &MemoryLimit{folder: filepath.Join(place.folder, "eci-node-"+strconv.Itoa(os.Getpid())+"-"+containerID[:16]), version: place.version}
	if err := os.Mkdir(limit.folder, 0o755); err != nil {
		return nil, err
	}
	file := map[int]string{1: "memory.limit_in_bytes", 2: "memory.max"}[place.version]
	if err := os.WriteFile(filepath.Join(limit.folder, file), []byte(strconv.FormatInt(bytes, 10)), 0); err != nil {
		limit.Remove()
		return nil, err
	}
	if place.version == 2 { // as a kubelet has it: the whole container ends
		if err := os.WriteFile(filepath.Join(limit.folder, "memory.oom.group"), []byte("1"), 0); err != nil {
			limit.Remove()
			return nil, err
		}
	}
	return limit, nil
}

// Add puts processes under the limit.
func (l *MemoryLimit) Add(pids ...int) error {
	if l == nil {
		return nil
	}
	for _, pid := range pids {
		if pid == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(l.folder, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("process %d cannot be limited: %w", pid, err)
		}
	}
	return nil
}

// Hit says whether the kernel has killed a process for this limit.
func (l *MemoryLimit) Hit() bool {
	if l == nil {
		return false
	}
	file := map[int]string{1: "memory.oom_control", 2: "memory.events"}[l.version]
	content, err := os.ReadFile(filepath.Join(l.folder, file))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			return count != "0"
		}
	}
	return false
}

// Remove takes the cgroup away. The kernel may need a moment after the last process.
func (l *MemoryLimit) Remove() {
	if l == nil {
		return
	}
	for range 50 {
		if err := os.Remove(l.folder); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
