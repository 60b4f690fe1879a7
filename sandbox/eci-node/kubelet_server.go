package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"
)

// streamIdle is how long a stream may be silent. The library's own default of 30 seconds would end a quiet job's
// stream as a success; and its route for port-forward takes the two timeouts the wrong way round, so both are long.
const streamIdle = 24 * time.Hour

// KubeletServer is the HTTPS port by which the API server reaches the pods of all nodes of this process.
type KubeletServer struct {
	listener net.Listener
	server   *http.Server
}

// KubeletTLS names the files of the kubelet's certificate, and of the CA that the API server's certificate is from.
type KubeletTLS struct{ Certificate, Key, ClientCA string }

// ListenKubelet opens the port; Serve answers on it.
func ListenKubelet(address string, files KubeletTLS, eci *ECI) (*KubeletServer, error) {
	certificate, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("the kubelet's certificate: %w", err)
	}
	authorities, err := os.ReadFile(files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("the API server's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("%s holds no certificate", files.ClientCA)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	handler := api.PodHandler(api.PodHandlerConfig{
		RunInContainer:        eci.RunInContainer,
		AttachToContainer:     eci.AttachToContainer,
		PortForward:           eci.PortForward,
		GetContainerLogs:      eci.GetContainerLogs,
		GetPods:               eci.pods,
		GetPodsFromKubernetes: eci.pods,
		GetStatsSummary:       eci.GetStatsSummary,
		GetMetricsResource:    eci.GetMetricsResource,
		StreamIdleTimeout:     streamIdle,
		StreamCreationTimeout: streamIdle,
	}, true)
	server := &http.Server{
		Handler:           eci.Streams.Track(handler),
		ConnContext:       remember,
		ReadHeaderTimeout: 30 * time.Second,
		// HTTP/1.1 only: exec and attach upgrade the connection.
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
			ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"http/1.1"}},
	}
	return &KubeletServer{listener: tls.NewListener(listener, server.TLSConfig), server: server}, nil
}

// Port is the one that was chosen.
func (s *KubeletServer) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Serve answers until Close.
func (s *KubeletServer) Serve() error { return s.server.Serve(s.listener) }

// Close ends the port and its connections.
func (s *KubeletServer) Close() { s.server.Close() }

func (e *ECI) pods(context.Context) ([]*corev1.Pod, error) {
	pods := []*corev1.Pod{}
	for _, instance := range e.Instances("") {
		pods = append(pods, instance.Pod())
	}
	return pods, nil
}
