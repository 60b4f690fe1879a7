package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what the machine lends to every container.
type Host struct {
	Bubblewrap   string   // path of bwrap
	Nsenter      string   // path of nsenter
	Self         string   // path of this program, which plays the service images
	HelperBinary string   // gitlab-runner-helper; empty where there is none
	BuildScript  string   // gitlab-runner-build
	ToolPaths    []string // further folders with programs, each with its own bin/
}

// etcEntries of the host are shown to containers, read-only, where they exist.
var etcEntries = []string{"ssl", "ca-certificates", "pki", "alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
	"localtime", "mime.types", "services", "protocols", "profile", "bash.bashrc", "inputrc", "gitconfig", "maven",
	"java-17-openjdk", "java-21-openjdk", "nsswitch.conf"}

const (
	passwdFile = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	groupFile  = "root:x:0:\nnogroup:x:65534:\n"
)

// buildScript is what GitLab's helper image starts a shell with.
const buildScript = "#!/bin/sh\n# Starts the shell that reads a stage of the job from standard input.\nexec /bin/bash\n"

// RootFilesystem is one container's own: the host's /usr under a writable layer in memory, and a devpts. All of it
// is mounted in the pod's mount namespace and goes with it.
type RootFilesystem struct{ usr, devpts string }

// MountRootFilesystem has to be called on the pod's thread.
func MountRootFilesystem(folder string) (RootFilesystem, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return RootFilesystem{}, err
	}
	if err := unix.Mount("eci-node", folder, "tmpfs", 0, "mode=0755"); err != nil {
		return RootFilesystem{}, fmt.Errorf("no memory for the container's root: %w", err)
	}
	root := RootFilesystem{usr: filepath.Join(folder, "usr"), devpts: filepath.Join(folder, "devpts")}
	upper, work := filepath.Join(folder, "upper"), filepath.Join(folder, "work")
	for _, path := range []string{root.usr, root.devpts, upper, work} {
		if err := os.Mkdir(path, 0o755); err != nil {
			return RootFilesystem{}, err
		}
	}
	layers := fmt.Sprintf("lowerdir=/usr,upperdir=%s,workdir=%s", upper, work)
	if err := unix.Mount("eci-node", root.usr, "overlay", 0, layers); err != nil {
		return RootFilesystem{}, fmt.Errorf("an overlay of /usr is needed and cannot be mounted: %w", err)
	}
	if err := unix.Mount("eci-node", root.devpts, "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		return RootFilesystem{}, fmt.Errorf("no terminals for the container: %w", err)
	}
	return root, nil
}

// PodFiles are the files below /etc that all containers of a pod share.
type PodFiles struct{ folder string }

var podFileNames = []string{"hosts", "hostname", "resolv.conf", "passwd", "group"}

// WritePodFiles writes them; hosts is the complete text of /etc/hosts.
func WritePodFiles(folder, hostname, hosts string) (PodFiles, error) {
	content := map[string]string{
		"hosts": hosts, "hostname": hostname + "\n", "resolv.conf": "# the practice pod has no name server\n",
		"passwd": passwdFile, "group": groupFile,
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return PodFiles{}, err
	}
	for _, name := range podFileNames {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content[name]), 0o644); err != nil {
			return PodFiles{}, err
		}
	}
	return PodFiles{folder}, nil
}

// rootArguments are bubblewrap's words for a container's root, without its volumes.
func (h Host) rootArguments(root RootFilesystem, files PodFiles, image Image) []string {
	words := []string{"--bind", root.usr, "/usr"}
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64"} {
		words = append(words, topLevel("/"+name)...)
	}
	words = append(words, "--proc", "/proc", "--dev", "/dev", "--dev-bind", root.devpts, "/dev/pts",
		"--ro-bind", "/sys", "/sys", "--dir", "/etc", "--dir", "/root", "--dir", "/var/tmp", "--dir", "/run",
		"--perms", "1777", "--dir", "/tmp")
	for _, name := range etcEntries {
		words = append(words, "--ro-bind-try", "/etc/"+name, "/etc/"+name)
	}
	for _, name := range podFileNames {
		words = append(words, "--bind", filepath.Join(files.folder, name), "/etc/"+name)
	}
	for _, path := range h.ToolPaths {
		words = append(words, "--ro-bind", path, path)
	}
	words = append(words, "--ro-bind", h.Self, selfInContainer)
	if image.Helper {
		words = append(words, "--ro-bind", h.BuildScript, "/usr/bin/gitlab-runner-build")
		if h.HelperBinary != "" {
			words = append(words, "--ro-bind", h.HelperBinary, "/usr/bin/gitlab-runner-helper")
		}
	}
	return words
}

func topLevel(path string) []string {
	if target, err := os.Readlink(path); err == nil {
		return []string{"--symlink", target, path}
	}
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return []string{"--ro-bind", path, path}
}

// searchPath is PATH with the bin folders of the host's further tools.
func (h Host) searchPath() string {
	path := []string{defaultPath}
	for _, folder := range h.ToolPaths {
		path = append(path, filepath.Join(folder, "bin"))
	}
	return strings.Join(path, ":")
}
