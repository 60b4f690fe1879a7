package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unmountBelow takes down every mount at or below a folder, the deepest first, and fails if one stays.
func unmountBelow(folder string) error {
	mounts, err := mountsBelow(folder)
	if err != nil {
		return err
	}
	slices.Sort(mounts)
	slices.Reverse(mounts)
	for _, mount := range mounts {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("%s stays mounted, nothing below it is removed: %w", mount, err)
		}
	}
	return nil
}

func mountsBelow(folder string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	mounts := []string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		target := unescapeMount(fields[4])
		if target == folder || strings.HasPrefix(target, folder+"/") {
			mounts = append(mounts, target)
		}
	}
	return mounts, lines.Err()
}

func unescapeMount(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}

// clearLeftovers removes what a killed node program left behind under its folder, and its cgroups. Its processes
// ended with it.
func clearLeftovers(dir string) error {
	if err := removeFolder(filepath.Join(dir, "instances")); err != nil {
		return err
	}
	place, err := cgroupParent()
	if err != nil {
		return nil // without a memory controller there are none
	}
	groups, err := filepath.Glob(filepath.Join(place.folder, "eci-node-*"))
	if err != nil {
		return err
	}
	for _, group := range groups {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(group), "eci-node-"), "-")
		if pid, err := strconv.Atoi(owner); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.Remove(group) // another node program may be faster
		}
	}
	return nil
}

// lockFolder makes sure that one node program at a time works in a folder; the lock goes with the process. Nobody else
// may look into the folder: pods' Secrets lie in it.
func lockFolder(dir string) (*os.File, error) {
	if err := makeFolder(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another eci-node works in %s: %w", dir, err)
	}
	return file, nil
}
