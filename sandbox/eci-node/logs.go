package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node/api"
)

// ContainerLog keeps what a container wrote, line by line with its moment, in a file; and hands each piece on to
// whoever is attached. A line of the file is `<moment> <F|P> <text>`; P marks a piece without its newline yet.
type ContainerLog struct {
	mu        sync.Mutex
	grown     sync.Cond
	file      *os.File
	path      string
	closed    bool
	followers map[*logFollower]struct{}
}

type logFollower struct{ stdout, stderr io.Writer }

// NewContainerLog starts an empty log at path.
func NewContainerLog(path string) (*ContainerLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	log := &ContainerLog{file: file, path: path, followers: map[*logFollower]struct{}{}}
	log.grown.L = &log.mu
	return log, nil
}

// Copy records a stream until it ends.
func (l *ContainerLog) Copy(from io.Reader, stderr bool, now func() time.Time) {
	buffer := make([]byte, 32*1024)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			l.record(buffer[:n], stderr, now())
		}
		if err != nil {
			return
		}
	}
}

func (l *ContainerLog) record(chunk []byte, stderr bool, at time.Time) {
	stamp := at.UTC().Format(time.RFC3339Nano)
	var lines bytes.Buffer
	for _, piece := range bytes.SplitAfter(chunk, []byte("\n")) {
		if len(piece) == 0 {
			continue
		}
		text, whole := bytes.CutSuffix(piece, []byte("\n"))
		kind := "P"
		if whole {
			kind = "F"
		}
		fmt.Fprintf(&lines, "%s %s %s\n", stamp, kind, text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		_, _ = l.file.Write(lines.Bytes()) // a full disk shows itself in the pod's own writes
	}
	for follower := range l.followers {
		target := follower.stdout
		if stderr && follower.stderr != nil {
			target = follower.stderr
		}
		if target == nil {
			continue
		}
		if _, err := target.Write(chunk); err != nil {
			delete(l.followers, follower)
		}
	}
	l.grown.Broadcast()
}

// Attach hands on everything from now on; the returned function ends it.
func (l *ContainerLog) Attach(stdout, stderr io.Writer) (detach func()) {
	follower := &logFollower{stdout, stderr}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers[follower] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.followers, follower)
	}
}

// Close ends the log: readers that follow it come to their end.
func (l *ContainerLog) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.file.Close()
	}
	l.grown.Broadcast()
}

// Open reads the log with kubectl's options. A follower's stream ends with the log, or with the context.
func (l *ContainerLog) Open(ctx context.Context, options api.ContainerLogOpts, now func() time.Time) (io.ReadCloser, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	since := options.SinceTime
	if options.SinceSeconds > 0 {
		since = now().Add(-time.Duration(options.SinceSeconds) * time.Second)
	}
	reader, writer := io.Pipe()
	go func() {
		defer file.Close()
		err := l.stream(ctx, file, writer, options, since)
		if errors.Is(err, errLimitReached) {
			err = nil
		}
		writer.CloseWithError(err)
	}()
	return reader, nil
}

func (l *ContainerLog) stream(ctx context.Context, file *os.File, to io.Writer, options api.ContainerLogOpts, since time.Time) error {
	// Whoever waits for growth has to notice that the client has left.
	stop := context.AfterFunc(ctx, func() { l.mu.Lock(); l.grown.Broadcast(); l.mu.Unlock() })
	defer stop()
	printer := &logPrinter{to: to, timestamps: options.Timestamps, since: since, limit: options.LimitBytes, lineStart: true}
	reader := bufio.NewReader(file)
	skip, err := linesBeforeTail(l.path, options.Tail)
	if err != nil {
		return err
	}
	pending := ""
	for {
		text, err := reader.ReadString('\n')
		pending += text
		if err == nil {
			if skip > 0 {
				skip--
			} else if err := printer.print(strings.TrimSuffix(pending, "\n")); err != nil {
				return err
			}
			pending = ""
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if !options.Follow || !l.waitForMore(ctx, file) {
			return nil
		}
	}
}

// waitForMore is false when nothing will come any more.
func (l *ContainerLog) waitForMore(ctx context.Context, file *os.File) bool {
	position, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for ctx.Err() == nil {
		if info, err := file.Stat(); err != nil || info.Size() > position {
			return err == nil
		}
		if l.closed {
			return false
		}
		l.grown.Wait()
	}
	return false
}

func linesBeforeTail(path string, tail int) (int, error) {
	if tail <= 0 {
		return 0, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	starts := []int{}
	lineStart := true
	for number, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		if lineStart {
			starts = append(starts, number)
		}
		_, rest, _ := strings.Cut(line, " ")
		lineStart = strings.HasPrefix(rest, "F")
	}
	if len(starts) <= tail {
		return 0, nil
	}
	return starts[len(starts)-tail], nil
}

var errLimitReached = errors.New("the byte limit of the log request is reached")

type logPrinter struct {
	to         io.Writer
	timestamps bool
	since      time.Time
	limit      int
	written    int
	lineStart  bool
}

func (p *logPrinter) print(record string) error {
	stamp, rest, _ := strings.Cut(record, " ")
	kind, text, _ := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return fmt.Errorf("a log record cannot be read: %w", err)
	}
	if at.Before(p.since) {
		return nil
	}
	if p.timestamps && p.lineStart {
		text = stamp + " " + text
	}
	p.lineStart = kind == "F"
	if p.lineStart {
		text += "\n"
	}
	if p.limit > 0 && p.written+len(text) >= p.limit {
		_, err = io.WriteString(p.to, text[:p.limit-p.written])
		return errors.Join(err, errLimitReached)
	}
	p.written += len(text)
	_, err = io.WriteString(p.to, text)
	return err
}
