package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Reachable holds the machine's addresses that pods may reach: GitLab, an object store, the API server. Each is
// offered inside every pod under the same loopback port, the only way out of a pod's network namespace.
type Reachable struct {
	mu        sync.Mutex
	addresses map[int]string // port in the pod -> address on the machine
	networks  map[*PodNetwork]struct{}
}

// NewReachable takes addresses of the form HOST:PORT.
func NewReachable(addresses []string) (*Reachable, error) {
	reachable := &Reachable{addresses: map[int]string{}, networks: map[*PodNetwork]struct{}{}}
	for _, address := range addresses {
		if err := reachable.Add(address); err != nil {
			return nil, err
		}
	}
	return reachable, nil
}

// Add offers one more HOST:PORT, in the pods that run already as well.
func (r *Reachable) Add(address string) error {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reachable address %q is not HOST:PORT: %w", address, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 1 || port > 65535 {
		return fmt.Errorf("reachable address %q has no port between 1 and 65535", address)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if host == "" || strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	r.addresses[port] = net.JoinHostPort(host, portText)
	for network := range r.networks {
		if err := network.offer(port); err != nil {
			return err
		}
	}
	return nil
}

// Addresses lists what is offered now.
func (r *Reachable) Addresses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	addresses := make([]string, 0, len(r.addresses))
	for _, address := range r.addresses {
		addresses = append(addresses, address)
	}
	return addresses
}

func (r *Reachable) address(port int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addresses[port]
}

// PodNetwork is the loopback of one pod: the forwarders to the machine, and the way in for port-forward.
type PodNetwork struct {
	thread    *PodThread
	reachable *Reachable
	mu        sync.Mutex
	listeners map[int]net.Listener
	closed    bool
}

// NewPodNetwork offers the reachable addresses inside the pod of this thread.
func NewPodNetwork(thread *PodThread, reachable *Reachable) (*PodNetwork, error) {
	network := &PodNetwork{thread: thread, reachable: reachable, listeners: map[int]net.Listener{}}
	reachable.mu.Lock()
	defer reachable.mu.Unlock()
	for port := range reachable.addresses {
		if err := network.offer(port); err != nil {
			network.closeListeners()
			return nil, err
		}
	}
	reachable.networks[network] = struct{}{}
	return network, nil
}

// Close withdraws the forwarders.
func (n *PodNetwork) Close() {
	n.reachable.mu.Lock()
	delete(n.reachable.networks, n)
	n.reachable.mu.Unlock()
	n.closeListeners()
}

func (n *PodNetwork) closeListeners() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, listener := range n.listeners {
		listener.Close()
	}
}

// offer listens on a port of the pod's loopback. A port that the pod itself serves already stays the pod's.
func (n *PodNetwork) offer(port int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.listeners[port] != nil {
		return nil
	}
	var listener net.Listener
	err := n.thread.Do(func() error {
		var err error
		listener, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err
	})
	if errors.Is(err, errThreadClosed) || errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("port %d cannot be offered in the pod: %w", port, err)
	}
	n.listeners[port] = listener
	go n.forward(listener, port)
	return nil
}

func (n *PodNetwork) forward(listener net.Listener, port int) {
	for {
		inside, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			outside, err := net.Dial("tcp", n.reachable.address(port))
			if err != nil {
				slog.Warn("a pod asked for an address that does not answer", "port", port, "error", err)
				inside.Close()
				return
			}
			pipe(inside, outside)
		}()
	}
}

// Dial connects to a port that a container of the pod serves.
func (n *PodNetwork) Dial(ctx context.Context, port int32) (net.Conn, error) {
	var conn net.Conn
	err := n.thread.Do(func() error {
		var dialer net.Dialer
		var err error
		// A literal address: a name, or a second address family, would be dialled on other threads.
		conn, err = dialer.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		return err
	})
	return conn, err
}

// pipe copies both ways until both sides have said all they had to say.
func pipe(a, b io.ReadWriteCloser) {
	var copies sync.WaitGroup
	copies.Add(2)
	one := func(to, from io.ReadWriteCloser) {
		defer copies.Done()
		_, _ = io.Copy(to, from) // an ended peer is the normal end of a forwarded connection
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
			return
		}
		to.Close()
	}
	go one(a, b)
	go one(b, a)
	copies.Wait()
	a.Close()
	b.Close()
}
