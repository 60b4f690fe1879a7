// gitlab-runner-helper is what a job's scripts call in the helper container: it keeps caches, moves artifacts, waits for
// services and shows the log file of the attach strategy. It takes the flags of the program of that name in GitLab's helper
// image and prints what that one prints.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

const version = "gitlab-runner-helper (practice)"

// commands maps each subcommand to what it does with its arguments.
var commands = map[string]func(*flag.FlagSet, []string) error{
	"cache-extractor":      extractCache,
	"cache-archiver":       archiveCache,
	"artifacts-uploader":   uploadArtifacts,
	"artifacts-downloader": downloadArtifacts,
	"health-check":         checkHealth,
	"read-logs":            readLogs,
}

// exitError ends the program with a code of its own; without err everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: gitlab-runner-helper COMMAND [flags]")
		os.Exit(2)
	}
	name := os.Args[1]
	if name == "--version" || name == "-v" {
		fmt.Println(version)
		return
	}
	command, known := commands[name]
	if !known {
		fmt.Fprintf(os.Stderr, "gitlab-runner-helper: unknown command %q\n", name)
		os.Exit(2)
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	err := command(flags, os.Args[2:])
	var coded exitError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &coded):
		if coded.err != nil {
			fatal(os.Stderr, coded)
		}
		os.Exit(coded.code)
	default:
		fatal(os.Stderr, err)
		os.Exit(1)
	}
}

// words collects a flag that may be given several times.
type words []string

func (w *words) String() string { return strings.Join(*w, " ") }

func (w *words) Set(word string) error {
	*w = append(*w, word)
	return nil
}

func fatal(out io.Writer, err error) { logLine(out, red, "FATAL: ", err.Error()) }
