package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo terminal of a container's own devpts, so that `tty` inside finds its name.
type Terminal struct{ master, slave *os.File }

// OpenTerminal allocates one from a mounted devpts. On a pod's own mounts it has to be called on the pod's thread.
func OpenTerminal(devpts string) (*Terminal, error) {
	fd, err := unix.Open(devpts+"/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("no terminal in %s: %w", devpts, err)
	}
	master := os.NewFile(uintptr(fd), "terminal")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, fmt.Errorf("the terminal cannot be unlocked: %w", err)
	}
	peer, err := openPeer(fd)
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("the terminal's other end cannot be opened: %w", err)
	}
	return &Terminal{master: master, slave: os.NewFile(uintptr(peer), "terminal-peer")}, nil
}

func openPeer(master int) (int, error) {
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		return 0, errno
	}
	return int(peer), nil
}

// Resize tells the programs in the terminal its new size.
func (t *Terminal) Resize(columns, rows uint16) error {
	// Not through Fd: the terminal may be closed meanwhile, and its number given to another file.
	master, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = master.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	})
	return errors.Join(err, failed)
}
