// eci-node plays Alibaba Cloud's virtual nodes: one process, one node for each zone of a region, on the
// virtual-kubelet library that the real ones are built on. A pod becomes one ECI instance, whose containers run here
// as bubblewrap processes; what ECI shows to Kubernetes (sizes, annotations, conditions, events, phases) is written
// as ECI writes it. It is a stage for tests and no security boundary: containers run as root.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

//go:embed rbac.yaml
var rbacManifest string

//go:embed imagecache-crd.yaml
var imageCacheManifest string

func init() {
	// The main goroutine keeps the main thread: were a pod's thread the process's first one, it could not end.
	runtime.LockOSThread()
}

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "eci-node:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) > 0 {
		switch arguments[0] {
		case "rbac":
			fmt.Print(rbacManifest)
			return nil
		case "imagecache-crd":
			fmt.Print(imageCacheManifest)
			return nil
		case "match":
			return match(os.Stdin, os.Stdout)
		case "service":
			if len(arguments) < 2 {
				return errors.New("usage: eci-node service postgres|redis|http")
			}
			return runService(arguments[1]) // options of the service that is played may follow
		}
	}
	options, err := parseOptions(arguments)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return serve(ctx, options)
}

// options are the command line.
type options struct {
	Settings
	Kubeconfig   string
	TLS          KubeletTLS
	Reachable    []string
	Factor       float64
	HelperBinary string
	ToolPaths    []string
	StreamEnding StreamEnding
	ClusterKind  string
}

type listFlag struct{ values *[]string }

func (f listFlag) String() string {
	if f.values == nil {
		return ""
	}
	return strings.Join(*f.values, ",")
}

func (f listFlag) Set(value string) error { *f.values = append(*f.values, value); return nil }

type secondsFlag struct{ value *time.Duration }

func (f secondsFlag) String() string {
	if f.value == nil {
		return ""
	}
	return fmt.Sprint(f.value.Seconds())
}

func (f secondsFlag) Set(text string) error {
	seconds, err := time.ParseDuration(text + "s")
	if err != nil || seconds < 0 {
		return errors.New("a number of seconds is wanted, 0 or more")
	}
	*f.value = seconds
	return nil
}

func parseOptions(arguments []string) (options, error) {
	o := options{Settings: Settings{SpotLead: 3 * time.Minute, Retry: 2 * time.Second}}
	flags := flag.NewFlagSet("eci-node", flag.ContinueOnError)
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "how to reach the API server (needed)")
	flags.StringVar(&o.Region, "region", "cn-hangzhou", "region that is played")
	flags.Var(listFlag{&o.Zones}, "zone", "zone that gets a node, e.g. cn-hangzhou-i (needed, repeatable)")
	flags.StringVar(&o.Dir, "dir", "", "folder of this program: ready.json, instances/, buckets/ (needed)")
	flags.Float64Var(&o.Factor, "time-factor", 1, "how much faster than real time the played clock runs")
	flags.Var(secondsFlag{&o.Schedule}, "schedule-seconds", "played time in state Scheduling (default 0)")
	flags.Var(secondsFlag{&o.Pull}, "pull-seconds", "played time to pull images that are not in a cache (default 0)")
	flags.Var(secondsFlag{&o.SpotLead}, "spot-lead-seconds", "played time from SpotToBeReleased to the release")
	flags.Var(secondsFlag{&o.Retry}, "retry-seconds", "played time between attempts at stock and mounts")
	flags.Var(listFlag{&o.Reachable}, "reachable", "address of this machine that pods may reach, HOST:PORT (repeatable)")
	flags.Var(listFlag{&o.Buckets}, "bucket", "OSS bucket that exists (repeatable; without any, all do)")
	flags.Var(listFlag{&o.ToolPaths}, "tool-path", "folder of this machine whose bin/ containers may use (repeatable)")
	flags.StringVar(&o.HelperBinary, "gitlab-runner-helper", "", "program that helper images get as /usr/bin/gitlab-runner-helper")
	flags.StringVar(&o.TLS.Certificate, "tls-cert", "", "certificate of the kubelet port (needed)")
	flags.StringVar(&o.TLS.Key, "tls-key", "", "its key (needed)")
	flags.StringVar(&o.TLS.ClientCA, "client-ca", "", "CA of the API server's client certificate (needed)")
	flags.StringVar(&o.ClusterKind, "cluster-kind", "ack-serverless", "ack-serverless, or ack: then pods need a label or toleration")
	flags.StringVar((*string)(&o.StreamEnding), "stream-ending", string(EndingKilled), "how a reclaimed instance's streams end: killed, dropped, error")
	flags.BoolVar(&o.SpotSpecECSType, "spot-spec-ecs-type", false, "write an ECS type as the spec of spot instances")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	return o, o.check()
}

func (o *options) check() error {
	for name, value := range map[string]string{"kubeconfig": o.Kubeconfig, "dir": o.Dir, "tls-cert": o.TLS.Certificate,
		"tls-key": o.TLS.Key, "client-ca": o.TLS.ClientCA} {
		if value == "" {
			return fmt.Errorf("-%s is needed; see eci-node -help", name)
		}
	}
	if len(o.Zones) == 0 {
		return errors.New("-zone is needed, once for each node; see eci-node -help")
	}
	if o.Factor <= 0 {
		return fmt.Errorf("-time-factor is %g, it must be more than 0", o.Factor)
	}
	if o.ClusterKind != "ack" && o.ClusterKind != "ack-serverless" {
		return fmt.Errorf("-cluster-kind is %q, allowed are ack-serverless and ack", o.ClusterKind)
	}
	o.ACK = o.ClusterKind == "ack"
	return nil
}
