package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	utilexec "k8s.io/utils/exec"
)

// Attach connects a client with the container's own streams. A client that only sends is let go when it has sent
// everything, as GitLab Runner expects, which attaches anew for each stage; its end does not close the container's
// standard input unless the pod says stdinOnce.
func (c *Container) Attach(ctx context.Context, streams api.AttachIO) error {
	detach := func() {}
	if streams.Stdout() != nil || streams.Stderr() != nil {
		detach = c.Log.Attach(writerOrNil(streams.Stdout()), writerOrNil(streams.Stderr()))
	}
	defer detach()
	if c.term != nil {
		go c.term.follow(ctx, streams.Resize())
	}
	var sentAll chan struct{} // stays nil, and is never ready, for a client that also listens
	if streams.Stdin() != nil && c.stdin != nil {
		sent := make(chan struct{})
		go func() {
			_, _ = io.Copy(c.stdin, streams.Stdin()) // the client or the container has ended
			if c.Plan.StdinOnce && c.term == nil {
				c.CloseStdin()
			}
			close(sent)
		}()
		if streams.Stdout() == nil && streams.Stderr() == nil {
			sentAll = sent
		}
	}
	select {
	case <-c.done:
		return nil
	case <-sentAll:
		return nil
	case <-ctx.Done():
		return nil // the client has left
	}
}

func writerOrNil(stream io.WriteCloser) io.Writer {
	if stream == nil {
		return nil
	}
	return stream
}

// Exec runs a further command in the container's namespaces and answers with its exit code as remotecommand wants it.
func (c *Container) Exec(ctx context.Context, words []string, streams api.AttachIO) error {
	if !c.Running() {
		return fmt.Errorf("container %q is not running", c.Plan.Name)
	}
	arguments := []string{"-t", strconv.Itoa(c.pid), "-m", "-p", "-r", "--", "sh", "-c", `cd "$0" && exec "$@"`, c.workingDir()}
	command := exec.Command(c.host.Nsenter, append(arguments, c.asUser(words)...)...)
	command.Env = c.Plan.Environment
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.WaitDelay = 2 * time.Second // a process that it left behind may hold its streams
	var finish func()
	err := c.thread.Do(func() error {
		var err error
		if streams.TTY() {
			finish, err = c.execInTerminal(ctx, command, streams)
		} else {
			finish, err = execWithPipes(command, streams)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.limit.Add(command.Process.Pid); err != nil {
		_ = command.Process.Kill()
	}
	ended := context.AfterFunc(ctx, func() { _ = command.Process.Kill() })
	defer ended()
	err = command.Wait()
	finish()
	if code := exitCode(err); code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

func execWithPipes(command *exec.Cmd, streams api.AttachIO) (func(), error) {
	if stdout := streams.Stdout(); stdout != nil {
		command.Stdout = stdout
	}
	if stderr := streams.Stderr(); stderr != nil {
		command.Stderr = stderr
	}
	if streams.Stdin() == nil {
		return func() {}, command.Start()
	}
	// Not command.Stdin: Wait would then wait for the client's end as well.
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_, _ = io.Copy(stdin, streams.Stdin()) // the client or the command has ended
		stdin.Close()
	}()
	return func() {}, nil
}

func (c *Container) execInTerminal(ctx context.Context, command *exec.Cmd, streams api.AttachIO) (func(), error) {
	terminal, err := OpenTerminal(c.root.devpts)
	if err != nil {
		return nil, err
	}
	command.Stdin, command.Stdout, command.Stderr = terminal.slave, terminal.slave, terminal.slave
	command.SysProcAttr.Setsid, command.SysProcAttr.Setctty = true, true
	err = command.Start()
	terminal.slave.Close()
	if err != nil {
		terminal.master.Close()
		return nil, err
	}
	go terminal.follow(ctx, streams.Resize())
	if streams.Stdin() != nil {
		go func() { _, _ = io.Copy(terminal.master, streams.Stdin()) }() // the client or the command has ended
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		if streams.Stdout() != nil {
			_, _ = io.Copy(streams.Stdout(), terminal.master) // ends with an error when the last program leaves
		}
	}()
	return func() {
		select {
		case <-copied:
		case <-time.After(command.WaitDelay):
		}
		terminal.master.Close()
	}, nil
}

// follow resizes the terminal as the client says.
func (t *Terminal) follow(ctx context.Context, sizes <-chan api.TermSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if err := t.Resize(size.Width, size.Height); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
