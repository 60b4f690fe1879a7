package main

import (
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"
)

// defaultPath is where a container looks for programs.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Image is what a container image stands for on the practice node: the host's own programs, with the entry point
// that the real image has, and what is laid over them.
type Image struct {
	Entrypoint []string          // used where the container names no command; its args follow
	Cmd        []string          // follows the entry point where the container names no args either
	Env        map[string]string // as the real image sets it
	Helper     bool              // gets GitLab's helper programs in /usr/bin
	SizeBytes  int64             // of the compressed image, as the Pulled event tells it (an order of magnitude)
}

// imageRow maps the last part of a repository's name, by pattern, to an image.
type imageRow struct {
	Pattern string
	Image   Image
}

const mebibyte = 1 << 20

var (
	shellImage = Image{Cmd: []string{"sh"}, SizeBytes: 30 * mebibyte}
	bashImage  = Image{Cmd: []string{"bash"}, SizeBytes: 60 * mebibyte}
	builder    = Image{Cmd: []string{"sh"}, SizeBytes: 220 * mebibyte}
)

// imageTable is read from top to bottom; the first pattern that fits decides.
var imageTable = []imageRow{
	{"gitlab-runner-helper*", Image{Cmd: []string{"sh"}, Helper: true, SizeBytes: 28 * mebibyte}},
	{"*helper", Image{Cmd: []string{"sh"}, Helper: true, SizeBytes: 28 * mebibyte}},
	{"postgres*", Image{Entrypoint: serviceCommand("postgres"), SizeBytes: 150 * mebibyte}},
	{"redis*", Image{Entrypoint: serviceCommand("redis"), SizeBytes: 45 * mebibyte}},
	{"nginx*", Image{Entrypoint: serviceCommand("http"), SizeBytes: 70 * mebibyte}},
	{"python*", Image{Cmd: []string{"python3"}, SizeBytes: 50 * mebibyte}},
	{"node", Image{Cmd: []string{"node"}, SizeBytes: 45 * mebibyte}},
	{"alpine*", Image{Cmd: []string{"sh"}, SizeBytes: 4 * mebibyte}},
	{"busybox*", Image{Cmd: []string{"sh"}, SizeBytes: 2 * mebibyte}},
	{"debian*", bashImage}, {"ubuntu*", bashImage}, {"centos*", bashImage}, {"fedora*", bashImage},
	{"rockylinux*", bashImage}, {"almalinux*", bashImage}, {"alinux*", bashImage}, {"bash*", bashImage},
	{"openjdk*", builder}, {"eclipse-temurin*", builder}, {"maven*", builder}, {"gradle*", builder},
	{"golang*", builder}, {"ruby*", builder}, {"rust*", builder}, {"php*", builder}, {"gcc*", builder},
	{"build*", builder}, {"*-build", builder}, {"*-builder", builder}, {"kaniko*", builder},
	{"git", shellImage}, {"*-git", shellImage}, {"curl*", shellImage}, {"kubectl*", shellImage}, {"gitlab-runner*", shellImage},
}

// forbiddenHost and forbiddenTag are the parts of a name that no registry here ever answers for.
const (
	forbiddenHost = "registry.invalid"
	forbiddenTag  = "missing"
)

// PullError is why an image could not be had, in the words of a container runtime.
type PullError struct{ Name, Cause string }

func (e PullError) Error() string {
	return fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: %s", e.Name, e.Name, e.Cause)
}

// FindImage looks a name up in the table.
func FindImage(name string) (Image, error) {
	reference := parseImageName(name)
	if reference.host == forbiddenHost {
		return Image{}, PullError{name, fmt.Sprintf("failed to do request: dial tcp: lookup %s: no such host", reference.host)}
	}
	if reference.tag == forbiddenTag {
		return Image{}, PullError{name, name + ": not found"}
	}
	for _, row := range imageTable {
		if matched, err := path.Match(row.Pattern, path.Base(reference.repository)); err == nil && matched {
			return row.Image, nil
		}
	}
	return Image{}, PullError{name, "pull access denied, repository does not exist or may require authorization"}
}

type imageName struct{ host, repository, tag string }

func parseImageName(name string) imageName {
	name, _, _ = strings.Cut(name, "@")
	reference := imageName{host: "docker.io", repository: name, tag: "latest"}
	if first, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		reference.host, reference.repository = first, rest
	}
	if repository, tag, ok := strings.Cut(reference.repository, ":"); ok {
		reference.repository, reference.tag = repository, tag
	}
	if reference.host == "docker.io" && !strings.Contains(reference.repository, "/") {
		reference.repository = "library/" + reference.repository
	}
	return reference
}

// fullImageName is a name as a container runtime writes it into the status.
func fullImageName(name string) string {
	reference := parseImageName(name)
	return reference.host + "/" + reference.repository + ":" + reference.tag
}

// imageID is the name with a digest; here the digest is of the name.
func imageID(name string) string {
	reference := parseImageName(name)
	return fmt.Sprintf("%s/%s@sha256:%x", reference.host, reference.repository, sha256.Sum256([]byte(fullImageName(name))))
}

// CommandLine combines the image's entry point and command with the container's, as Kubernetes does.
func (i Image) CommandLine(command, args []string) []string {
	switch {
	case len(command) > 0:
		return append(slices.Clone(command), args...)
	case len(args) > 0:
		return append(slices.Clone(i.Entrypoint), args...)
	}
	return append(slices.Clone(i.Entrypoint), i.Cmd...)
}
