package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// readyReport is what ready.json tells the program that started this one.
type readyReport struct {
	PID            int       `json:"pid"`
	KubeletAddress string    `json:"kubelet_address"`
	ControlAddress string    `json:"control_address"`
	Nodes          []string  `json:"nodes"`
	TimeFactor     float64   `json:"time_factor"`
	StartedAt      time.Time `json:"started_at"` // where real and played time agree
	MemoryLimits   string    `json:"memory_limits"`
}

// serve runs all nodes until the context ends, and then takes everything down.
func serve(ctx context.Context, o options) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	readyFile := filepath.Join(dir, "ready.json")
	if err := errors.Join(clearLeftovers(dir), removeIfThere(readyFile)); err != nil {
		return err
	}
	eci, err := newECI(ctx, o)
	if err != nil {
		return err
	}
	kubelet, err := ListenKubelet("127.0.0.1:0", o.TLS, eci)
	if err != nil {
		return err
	}
	defer kubelet.Close()
	zones := NewZones(ctx, eci, kubelet.Port())
	control, err := ListenControl(eci, zones)
	if err != nil {
		return err
	}
	defer control.Close()
	failed := make(chan error, 2)
	for _, server := range []interface{ Serve() error }{kubelet, control} {
		go func() {
			if err := server.Serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
	}
	posting, endPosting := context.WithCancel(context.Background())
	defer endPosting()
	go eci.Events.Run(posting)
	defer eci.stopAll(zones)
	report := readyReport{PID: os.Getpid(), KubeletAddress: fmt.Sprintf("127.0.0.1:%d", kubelet.Port()),
		ControlAddress: control.Address(), TimeFactor: o.Factor, StartedAt: eci.Clock.start.UTC(), MemoryLimits: "enforced"}
	if err := MemoryLimitsUnavailable(); err != nil {
		report.MemoryLimits = err.Error()
	}
	if err := eci.Caches.Run(ctx); err != nil {
		return err
	}
	for _, zone := range o.Zones {
		if err := zones.Start(zone); err != nil {
			return err
		}
		report.Nodes = append(report.Nodes, nodePrefix+zone)
	}
	if err := NewBinder(eci, zones.Running).Run(ctx); err != nil {
		return err
	}
	if err := writeJSON(readyFile, report); err != nil {
		return err
	}
	defer os.Remove(readyFile)
	slog.Info("ready", "nodes", report.Nodes, "kubelet", report.KubeletAddress, "control", report.ControlAddress)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func newECI(ctx context.Context, o options) (*ECI, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	config.QPS, config.Burst = 1000, 2000 // hollow pods come by the dozen a second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("the API server %s does not answer: %w", config.Host, err)
	}
	host, err := findHost(o)
	if err != nil {
		return nil, err
	}
	apiServer, err := apiServerAddress(config)
	if err != nil {
		return nil, err
	}
	reachable, err := NewReachable(append([]string{apiServer}, o.Reachable...))
	if err != nil {
		return nil, err
	}
	clock := NewPlayedClock(time.Now(), o.Factor)
	faults := NewFaults(EndingKilled)
	if err := faults.SetStreamEnding(o.StreamEnding); err != nil {
		return nil, err
	}
	caches, err := NewImageCaches(ctx, config, clock, o.Pull, o.Region)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(apiServer)
	if err != nil {
		return nil, err
	}
	journal, err := OpenJournal(filepath.Join(o.Dir, "journal.jsonl"), o.Region, clock)
	if err != nil {
		return nil, err
	}
	return &ECI{Settings: o.Settings, Client: client, Clock: clock, Journal: journal, Faults: faults, Caches: caches, Host: host,
		Events: NewEventLog(client.CoreV1(), clock, "eci"), Reachable: reachable, Streams: NewStreams(),
		ServerVersion: version.GitVersion, APIServer: net.JoinHostPort("127.0.0.1", port),
		instances: map[string]*Instance{}}, nil
}

func apiServerAddress(config *rest.Config) (string, error) {
	address, err := url.Parse(config.Host)
	if err != nil {
		return "", err
	}
	port := firstOf(address.Port(), map[string]string{"http": "80"}[address.Scheme], "443")
	return net.JoinHostPort(address.Hostname(), port), nil
}

// findHost looks for the programs of the machine that containers are made with.
func findHost(o options) (Host, error) {
	host := Host{ToolPaths: o.ToolPaths, BuildScript: filepath.Join(o.Dir, "gitlab-runner-build")}
	var missing []error
	for program, path := range map[string]*string{"bwrap": &host.Bubblewrap, "nsenter": &host.Nsenter} {
		found, err := exec.LookPath(program)
		if err != nil {
			missing = append(missing, fmt.Errorf("%s is needed (packages bubblewrap and util-linux): %w", program, err))
		}
		*path = found
	}
	self, err := os.Executable()
	if err == nil {
		host.Self, err = keepProgram(self, filepath.Join(o.Dir, "eci-standin"))
	}
	missing = append(missing, err)
	if o.HelperBinary != "" {
		host.HelperBinary, err = keepProgram(o.HelperBinary, filepath.Join(o.Dir, "gitlab-runner-helper"))
		if err != nil {
			missing = append(missing, fmt.Errorf("-gitlab-runner-helper: %w", err))
		}
	}
	missing = append(missing, os.WriteFile(host.BuildScript, []byte(buildScript), 0o755), tryRoot(filepath.Join(o.Dir, "trial")))
	return host, errors.Join(missing...)
}

// keepProgram takes a program into this program's own folder, by a link or else a copy: where it was built, a newer
// build may replace it while pods run.
func keepProgram(from, to string) (string, error) {
	if err := removeIfThere(to); err != nil {
		return "", err
	}
	if os.Link(from, to) == nil {
		return to, nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(to, content, 0o755)
}

// tryRoot makes what every container needs once, so that a machine that does not allow it is told at the start.
func tryRoot(folder string) error {
	thread, err := NewPodThread("trial")
	if err != nil {
		return err
	}
	err = thread.Do(func() error {
		_, err := MountRootFilesystem(folder)
		return err
	})
	thread.Close()
	return errors.Join(err, removeFolder(folder))
}

// stopAll ends the controllers and all instances. What the pods' objects say stays as it is; the next program that
// is started here finds them and tells them that they are lost.
func (e *ECI) stopAll(zones *Zones) {
	zones.StopAll()
	var ends sync.WaitGroup
	for _, instance := range e.Instances("") {
		ends.Add(1)
		go func() {
			defer ends.Done()
			instance.CutPower()
		}()
	}
	ends.Wait()
	if err := removeFolder(e.instancesFolder()); err != nil {
		slog.Warn("files were left behind", "error", err)
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeJSON replaces a file in one step, so that a reader never sees half of it.
func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
