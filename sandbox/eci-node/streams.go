package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Streams are the open connections of exec, attach, logs and port-forward, by pod, so that they can be cut.
type Streams struct {
	mu   sync.Mutex
	open map[string]map[net.Conn]struct{} // namespace/name -> connections
}

// NewStreams starts without any.
func NewStreams() *Streams { return &Streams{open: map[string]map[net.Conn]struct{}{}} }

type connectionKey struct{}

// remember puts the connection into the requests' context.
func remember(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// Track notes the connection of each stream while it is served.
func (s *Streams) Track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		conn, ok := request.Context().Value(connectionKey{}).(net.Conn)
		pod, isStream := streamPod(request.URL.Path)
		if ok && isStream {
			s.add(pod, conn)
			defer s.remove(pod, conn)
		}
		next.ServeHTTP(writer, request)
	})
}

// streamPod reads namespace/name out of a kubelet path.
func streamPod(path string) (string, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) < 3 {
		return "", false
	}
	switch parts[0] {
	case "exec", "attach", "containerLogs", "portForward":
		return parts[1] + "/" + parts[2], true
	}
	return "", false
}

func (s *Streams) add(pod string, conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[pod] == nil {
		s.open[pod] = map[net.Conn]struct{}{}
	}
	s.open[pod][conn] = struct{}{}
}

func (s *Streams) remove(pod string, conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open[pod], conn)
	if len(s.open[pod]) == 0 {
		delete(s.open, pod)
	}
}

// Drop closes all connections of a pod without a word, and says how many there were.
func (s *Streams) Drop(namespace, name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	connections := s.open[namespace+"/"+name]
	for conn := range connections {
		conn.Close()
	}
	return len(connections)
}
