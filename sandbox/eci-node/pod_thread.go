package main

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// PodThread is one operating-system thread that lives as long as its pod. It owns the pod's network, IPC, UTS and
// mount namespaces, and every process of the pod is forked on it: the process inherits those namespaces, and
// bubblewrap's parent-death signal, which follows the forking thread, ends it when the thread goes. Nothing is
// therefore visible to the host while the pod runs, and nothing is left when this program is killed.
type PodThread struct {
	work chan func()
	done chan struct{}
}

// NewPodThread starts the thread with a loopback interface of its own and the given host name.
func NewPodThread(hostname string) (*PodThread, error) {
	thread := &PodThread{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go thread.serve(hostname, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return thread, nil
}

// errThreadClosed is what Do returns after Close.
var errThreadClosed = errors.New("the pod's thread has ended")

// Do runs f on the thread and waits for it.
func (t *PodThread) Do(f func() error) error {
	result := make(chan error, 1)
	select {
	case t.work <- func() { result <- f() }:
		return <-result
	case <-t.done:
		return errThreadClosed
	}
}

// Close ends the thread, and with it every process that was forked on it. It may be called more than once.
func (t *PodThread) Close() {
	select {
	case t.work <- nil:
		<-t.done
	case <-t.done:
	}
}

func (t *PodThread) serve(hostname string, ready chan<- error) {
	// Never unlocked: the Go runtime ends the thread with the goroutine, so no other goroutine can run in
	// the pod's namespaces.
	runtime.LockOSThread()
	defer close(t.done)
	if err := enterNamespaces(hostname); err != nil {
		ready <- err
		return
	}
	ready <- nil
	for f := range t.work {
		if f == nil {
			return
		}
		f()
	}
}

func enterNamespaces(hostname string) error {
	flags := unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("the pod's namespaces cannot be made (root is needed): %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("the pod's mounts cannot be made private: %w", err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("the pod's host name cannot be set: %w", err)
	}
	return raiseLoopback()
}

func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("no socket to raise the loopback interface with: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("the loopback interface cannot be raised: %w", err)
	}
	return nil
}
