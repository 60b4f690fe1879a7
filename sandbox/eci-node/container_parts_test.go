package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"
)

// Whatever registry and tag, the name of the repository decides; forbidden and unknown names fail.
func TestImagesAreFoundByTheLastPartOfTheirName(t *testing.T) {
	for name, want := range map[string]string{
		"alpine": "sh", "alpine:3.20": "sh", "docker.io/library/debian:12": "bash",
		"registry-vpc.cn-hangzhou.aliyuncs.com/team/python:3.12-slim":                "python3",
		"registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-1": "sh",
		"postgres:13":                   selfInContainer,
		"registry.example/build:1":      "sh",
		"registry.invalid/alpine":       "no such host",
		"alpine:missing":                "not found",
		"registry.example/strange:1":    "pull access denied",
		"localhost:5000/redis@sha256:0": selfInContainer,
	} {
		image, err := FindImage(name)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = image.CommandLine(nil, nil)[0]
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// The status names images as a container runtime does.
func TestImageNamesAreWrittenInFull(t *testing.T) {
	for name, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "gitlab/gitlab-runner-helper:x": "docker.io/gitlab/gitlab-runner-helper:x",
		"host:5000/a/b": "host:5000/a/b:latest",
	} {
		if got := fullImageName(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// Known names are replaced, unknown ones stay, and $$ is a dollar.
func TestVariablesAreExpandedAsKubernetesDoes(t *testing.T) {
	known := map[string]string{"A": "1", "B": "two"}
	for text, want := range map[string]string{"$(A)-$(B)": "1-two", "$(C)": "$(C)", "$$(A)": "$(A)", "$A": "$A", "100$": "100$",
		"$(A": "$(A"} {
		if got := expand(text, known); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// tail, limit-bytes, since, timestamps and follow mean what they mean to kubectl.
func TestALogIsReadWithKubectlsOptions(t *testing.T) {
	log, err := NewContainerLog(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	log.record([]byte("one\ntw"), false, start)
	log.record([]byte("o\nthree"), true, start.Add(time.Minute))
	log.Close()
	now := func() time.Time { return start.Add(2 * time.Minute) }
	rows := map[string]struct {
		options api.ContainerLogOpts
		want    string
	}{
		"everything":  {api.ContainerLogOpts{}, "one\ntwo\nthree"},
		"tail":        {api.ContainerLogOpts{Tail: 2}, "two\nthree"},
		"a long tail": {api.ContainerLogOpts{Tail: 9}, "one\ntwo\nthree"},
		"limit":       {api.ContainerLogOpts{LimitBytes: 5}, "one\nt"},
		"since":       {api.ContainerLogOpts{SinceSeconds: 90}, "o\nthree"},
		"timestamps":  {api.ContainerLogOpts{Tail: 1, Timestamps: true}, "2026-11-24T12:01:00Z three"},
		"followed":    {api.ContainerLogOpts{Follow: true}, "one\ntwo\nthree"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			reader, err := log.Open(context.Background(), row.options, now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(reader)
			if err != nil || string(got) != row.want {
				t.Errorf("got %q (%v), want %q", got, err, row.want)
			}
		})
	}
}

// A follower and an attached client see what is written after they came.
func TestAFollowerGetsWhatComesAndThenTheEnd(t *testing.T) {
	log, err := NewContainerLog(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := log.Open(context.Background(), api.ContainerLogOpts{Follow: true}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var attached bytes.Buffer
	detach := log.Attach(&attached, nil)
	go func() {
		log.Copy(strings.NewReader("late\n"), false, time.Now)
		log.Close()
	}()
	got, err := io.ReadAll(reader)
	detach()
	if err != nil || string(got) != "late\n" || attached.String() != "late\n" {
		t.Errorf("followed %q (%v), attached %q", got, err, attached.String())
	}
}

// A mount fails without a key, a bucket or the right driver, and never leaves the folder of buckets.
func TestBucketsFailWhereOSSWould(t *testing.T) {
	keys := map[string][]byte{"akId": []byte("i"), "akSecret": []byte("s")}
	options := func(bucket string) map[string]string {
		return map[string]string{"bucket": bucket, "url": "oss-cn-hangzhou-internal.aliyuncs.com", "path": "/ci"}
	}
	rows := map[string]struct {
		driver  string
		options map[string]string
		secret  map[string][]byte
		want    string // the end of the folder, or a part of the refusal
	}{
		"by CSI":             {ossCSIDriver, options("mine"), keys, "buckets/mine/ci"},
		"by FlexVolume":      {ossFlexDriver, options("mine"), keys, "buckets/mine/ci"},
		"a path that climbs": {ossCSIDriver, map[string]string{"bucket": "mine", "url": "u", "path": "/../../etc"}, keys, "buckets/mine/etc"},
		"another driver":     {"diskplugin.csi.alibabacloud.com", options("mine"), keys, "not found in the list"},
		"no such bucket":     {ossCSIDriver, options("theirs"), keys, "NoSuchBucket"},
		"no key":             {ossCSIDriver, options("mine"), nil, "neither akId"},
		"no bucket":          {ossCSIDriver, options(""), keys, "must not be empty"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			volumes := Volumes{Buckets: filepath.Join(t.TempDir(), "buckets"), Known: []string{"mine"}}
			folder, err := volumes.bucket(row.driver, row.options, row.secret)
			if err != nil {
				if !strings.Contains(err.Error(), row.want) {
					t.Errorf("refused with %q, which does not say %q", err, row.want)
				}
			} else if !strings.HasSuffix(folder, row.want) {
				t.Errorf("the folder is %s", folder)
			}
		})
	}
}

// A container's command replaces the entry point, its args replace the image's command.
func TestCommandLinesAreCombinedAsKubernetesDoes(t *testing.T) {
	image := Image{Entrypoint: []string{"entry"}, Cmd: []string{"cmd"}}
	rows := []struct {
		command, args []string
		want          string
	}{
		{nil, nil, "entry cmd"},
		{nil, []string{"arg"}, "entry arg"},
		{[]string{"own"}, nil, "own"},
		{[]string{"own"}, []string{"arg"}, "own arg"},
	}
	for _, row := range rows {
		if got := strings.Join(image.CommandLine(row.command, row.args), " "); got != row.want {
			t.Errorf("%v %v: got %q, want %q", row.command, row.args, got, row.want)
		}
	}
}

// Modes are exact, whatever the umask, and no item leaves the volume.
func TestFilesOfAVolumeHaveTheirModeAndStayInside(t *testing.T) {
	folder := t.TempDir()
	mode, itemMode := int32(0o777), int32(0o400)
	volumes := Volumes{}
	files := map[string][]byte{"run": []byte("x"), "key": []byte("y")}
	items := []corev1.KeyToPath{{Key: "run", Path: "deep/run"}, {Key: "key", Path: "../key", Mode: &itemMode}}
	if err := volumes.write(folder, files, items, &mode, nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"deep/run": 0o777, "key": 0o400} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want mode %o", name, err, want)
		}
	}
	if err := volumes.write(folder, files, []corev1.KeyToPath{{Key: "absent", Path: "a"}}, nil, nil); err == nil {
		t.Error("a key that is not there was written")
	}
}

// A toleration is compared with the virtual node's taint as a scheduler compares it.
func TestTaintsAreTolerated(t *testing.T) {
	taint := corev1.Taint{Key: taintKey, Value: taintValue, Effect: corev1.TaintEffectNoSchedule}
	for want, toleration := range map[string]corev1.Toleration{
		"exists":         {Operator: corev1.TolerationOpExists},
		"the key exists": {Key: taintKey, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		"equal":          {Key: taintKey, Value: taintValue},
	} {
		if !tolerates(toleration, taint) {
			t.Errorf("%s does not tolerate", want)
		}
	}
	for _, toleration := range []corev1.Toleration{{Key: taintKey, Value: "other"},
		{Key: taintKey, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}} {
		if tolerates(toleration, taint) {
			t.Errorf("%+v tolerates", toleration)
		}
	}
}

// A stream is known by the pod in its path.
func TestKubeletPathsNameTheirPod(t *testing.T) {
	for path, want := range map[string]string{"/exec/ci/job/build": "ci/job", "/portForward/ci/job": "ci/job", "/pods": "", "/stats/summary": ""} {
		if got, _ := streamPod(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
