package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"golang.org/x/sys/unix"
)

// capabilities are those that a container runtime leaves to root by default.
var capabilities = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	"CAP_AUDIT_WRITE"}

// Mount shows a host path inside a container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// ContainerPlan is everything that has to be known to start a container.
type ContainerPlan struct {
	Name        string
	Command     []string
	Environment []string
	WorkingDir  string
	Mounts      []Mount
	Image       Image
	Stdin       bool
	StdinOnce   bool
	TTY         bool
	User        *int64
	Group       *int64
	MemoryBytes int64 // limit; 0 is none
}

// ContainerExit is how a container ended.
type ContainerExit struct {
	Code       int
	OOMKilled  bool
	StartError string // why it never started; empty if it did
}

// Container is one bubblewrap process tree; its first process is PID 1 of a PID namespace of its own.
type Container struct {
	ID      string
	Plan    ContainerPlan
	Log     *ContainerLog
	thread  *PodThread
	host    Host
	root    RootFilesystem
	limit   *MemoryLimit
	started time.Time
	pid     int // of the container's PID 1, as the host sees it
	command *exec.Cmd
	stdin   io.WriteCloser
	once    sync.Once
	term    *Terminal
	done    chan struct{}
	exit    ContainerExit

	outOfMemory atomic.Bool // a test has asked for it
}

// StartContainer starts a container on its pod's thread. The error is for the machine's faults only; a command that
// does not exist is the container's own end.
func StartContainer(thread *PodThread, host Host, folder string, files PodFiles, plan ContainerPlan,
	log *ContainerLog, now func() time.Time) (*Container, error) {
	container := &Container{ID: randomHex(32), Plan: plan, Log: log, thread: thread, host: host, done: make(chan struct{})}
	limit, err := NewMemoryLimit(container.ID, plan.MemoryBytes)
	if err != nil {
		return nil, err
	}
	container.limit = limit
	if err := thread.Do(func() error { return container.start(folder, files, now) }); err != nil {
		limit.Remove()
		return nil, err
	}
	return container, nil
}

func (c *Container) start(folder string, files PodFiles, now func() time.Time) error {
	root, err := MountRootFilesystem(filepath.Join(folder, c.Plan.Name+"-"+c.ID[:8]))
	if err != nil {
		return err
	}
	c.root = root
	statusReader, statusWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer statusWriter.Close()
	gateReader, gateWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer gateReader.Close()
	defer gateWriter.Close()
	c.command = exec.Command(c.host.Bubblewrap, c.arguments(root, files)...)
	c.command.Env = c.Plan.Environment
	c.command.Dir = "/"
	c.command.ExtraFiles = []*os.File{statusWriter, gateReader}
	streams, err := c.connect()
	if err != nil {
		statusReader.Close()
		return err
	}
	err = c.command.Start()
	streams.closeChildEnds()
	if err != nil {
		statusReader.Close()
		return err
	}
	c.started = time.Now()
	copied := streams.record(c.Log, now)
	statusWriter.Close()
	c.pid = childPID(statusReader)
	go func() { // bubblewrap reports the end as well, and would be killed if nobody read it
		_, _ = io.Copy(io.Discard, statusReader)
		statusReader.Close()
	}()
	if err := c.limit.Add(c.command.Process.Pid, c.pid); err != nil {
		_ = c.command.Process.Kill()
		return err
	}
	if _, err := gateWriter.Write([]byte{1}); err != nil {
		return err
	}
	go c.wait(copied)
	c.waitForExec()
	return nil
}

func (c *Container) arguments(root RootFilesystem, files PodFiles) []string {
	words := []string{"--die-with-parent", "--unshare-pid", "--as-pid-1", "--json-status-fd", "3", "--block-fd", "4"}
	if !c.Plan.TTY {
		words = append(words, "--new-session")
	}
	for _, capability := range capabilities {
		words = append(words, "--cap-add", capability)
	}
	words = append(words, c.host.rootArguments(root, files, c.Plan.Image)...)
	for _, mount := range c.Plan.Mounts {
		kind := "--bind"
		if mount.ReadOnly {
			kind = "--ro-bind"
		}
		words = append(words, kind, mount.Source, mount.Target)
	}
	words = append(words, "--dir", c.workingDir(), "--chdir", c.workingDir(), "--")
	return append(words, c.asUser(c.Plan.Command)...)
}

func (c *Container) workingDir() string { return firstOf(c.Plan.WorkingDir, "/") }

// asUser lets setpriv change to the user that the pod names.
func (c *Container) asUser(command []string) []string {
	if c.Plan.User == nil || *c.Plan.User == 0 {
		return command
	}
	group := *c.Plan.User
	if c.Plan.Group != nil {
		group = *c.Plan.Group
	}
	prefix := []string{"setpriv", "--reuid", strconv.FormatInt(*c.Plan.User, 10), "--regid",
		strconv.FormatInt(group, 10), "--clear-groups", "--"}
	return append(prefix, command...)
}

// containerStreams are both ends of what a container reads and writes.
type containerStreams struct {
	child  []*os.File
	stdout *os.File
	stderr *os.File
}

func (c *Container) connect() (*containerStreams, error) {
	streams := &containerStreams{}
	if c.Plan.TTY {
		terminal, err := OpenTerminal(c.root.devpts)
		if err != nil {
			return nil, err
		}
		c.term, c.stdin = terminal, terminal.master
		c.command.Stdin, c.command.Stdout, c.command.Stderr = terminal.slave, terminal.slave, terminal.slave
		c.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		streams.child, streams.stdout = []*os.File{terminal.slave}, terminal.master
		return streams, nil
	}
	if c.Plan.Stdin {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		c.command.Stdin, c.stdin = reader, writer
		streams.child = append(streams.child, reader)
	}
	stdout, stdoutChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	stderr, stderrChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.command.Stdout, c.command.Stderr = stdoutChild, stderrChild
	streams.child = append(streams.child, stdoutChild, stderrChild)
	streams.stdout, streams.stderr = stdout, stderr
	return streams, nil
}

func (s *containerStreams) closeChildEnds() {
	for _, file := range s.child {
		file.Close()
	}
}

// record copies everything into the log; the returned group is done when both streams have ended.
func (s *containerStreams) record(log *ContainerLog, now func() time.Time) *sync.WaitGroup {
	var copied sync.WaitGroup
	for _, stream := range []*os.File{s.stdout, s.stderr} {
		if stream == nil {
			continue
		}
		copied.Add(1)
		go func() {
			defer copied.Done()
			log.Copy(stream, stream == s.stderr, now)
			stream.Close()
		}()
	}
	return &copied
}

// childPID reads bubblewrap's first report; 0 means that bubblewrap ended before it had a child.
func childPID(status io.Reader) int {
	var report struct {
		ChildPID int `json:"child-pid"`
	}
	if err := json.NewDecoder(status).Decode(&report); err != nil {
		return 0
	}
	return report.ChildPID
}

// waitForExec returns when bubblewrap has become the container's command, so that exec finds the container's root.
func (c *Container) waitForExec() {
	bubblewrap, err := os.Stat(c.host.Bubblewrap)
	if err != nil {
		return
	}
	for range 10_000 {
		current, err := os.Stat(fmt.Sprintf("/proc/%d/exe", c.pid))
		if err != nil || !os.SameFile(bubblewrap, current) {
			return
		}
		select {
		case <-c.done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (c *Container) wait(copied *sync.WaitGroup) {
	err := c.command.Wait()
	copied.Wait()
	c.exit = ContainerExit{Code: exitCode(err)}
	c.exit.OOMKilled = c.exit.Code != 0 && (c.outOfMemory.Load() || c.limit.Hit())
	if c.exit.Code == 1 {
		c.exit.StartError = bubblewrapError(c.Log)
	}
	if c.exit.StartError != "" {
		c.exit.Code = 128
	}
	c.limit.Remove()
	c.CloseStdin()
	c.Log.Close()
	close(c.done)
}

// bubblewrapError is bubblewrap's own complaint, if that is all the log holds.
func bubblewrapError(log *ContainerLog) string {
	reader, err := log.Open(context.Background(), api.ContainerLogOpts{}, time.Now)
	if err != nil {
		return ""
	}
	defer reader.Close()
	content, err := io.ReadAll(io.LimitReader(reader, 4096))
	text, found := strings.CutPrefix(string(content), "bwrap: ")
	if err != nil || !found || strings.Count(text, "\n") > 1 {
		return ""
	}
	return "failed to create containerd task: failed to create shim task: OCI runtime create failed: " + strings.TrimSpace(text)
}

// exitCode is a shell's: 128 and the signal's number where a signal ended the command.
func exitCode(err error) int {
	var exit *exec.ExitError
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return 0
	}
	if !errors.As(err, &exit) {
		return 255
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// Done is closed when the container has ended; Exit may be read then.
func (c *Container) Done() <-chan struct{} { return c.done }

// Exit says how it ended.
func (c *Container) Exit() ContainerExit { return c.exit }

// Running is false once the container has ended.
func (c *Container) Running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to PID 1 of the container; as in any container, PID 1 ignores what it does not handle.
func (c *Container) Signal(signal syscall.Signal) {
	if c.Running() && c.pid != 0 {
		_ = unix.Kill(c.pid, signal) // it may just have ended
	}
}

// Kill ends the container and waits for its end.
func (c *Container) Kill() {
	c.Signal(syscall.SIGKILL)
	if c.Running() {
		_ = c.command.Process.Kill() // the same race
	}
	<-c.done
}

// CloseStdin tells the container that nothing more will come.
func (c *Container) CloseStdin() {
	c.once.Do(func() {
		if c.stdin != nil && c.term == nil {
			c.stdin.Close()
		}
	})
}

// KillForMemory ends the container as the kernel does when its memory is used up.
func (c *Container) KillForMemory() {
	c.outOfMemory.Store(true)
	c.Kill()
}

func randomHex(bytes int) string {
	buffer := make([]byte, bytes)
	_, _ = rand.Read(buffer) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(buffer)
}
