package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// The colours of GitLab Runner's log lines.
const (
	plain  = ""
	yellow = "\x1b[0;33m"
	red    = "\x1b[31;1m"
	reset  = "\x1b[0;m"

	messageWidth = 50
)

// field is a name and a value at the end of a log line.
type field struct{ name, value string }

// logLine prints a message the way GitLab Runner does: padded, then its fields.
func logLine(out io.Writer, colour, prefix, message string, fields ...field) {
	var line strings.Builder
	fmt.Fprintf(&line, "%s%-*s%s ", colour, messageWidth, prefix+message, reset)
	for _, f := range fields {
		fmt.Fprintf(&line, " %s%s%s=%s", colour, f.name, reset, f.value)
	}
	fmt.Fprintln(out, line.String())
}

func info(message string, fields ...field) { logLine(os.Stdout, plain, "", message, fields...) }
func warning(message string, fields ...field) {
	logLine(os.Stdout, yellow, "WARNING: ", message, fields...)
}
func failure(message string, fields ...field) { logLine(os.Stdout, red, "ERROR: ", message, fields...) }
