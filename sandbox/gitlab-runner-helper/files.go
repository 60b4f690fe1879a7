package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// selection is which files of the working directory a cache or an artifact holds.
type selection struct {
	paths     words
	excludes  words
	untracked bool
}

func (s *selection) register(flags *flag.FlagSet) {
	flags.Var(&s.paths, "path", "file, directory or pattern (`*`, `**`) below the working directory")
	flags.Var(&s.excludes, "exclude", "pattern of files that are left out")
	flags.BoolVar(&s.untracked, "untracked", false, "add what git does not track")
}

// find returns the selected files and directories, relative to the working directory, sorted, each once. A directory
// selects what is below it. Paths outside the working directory are left out with a warning.
func (s *selection) find() ([]string, error) {
	found := map[string]bool{}
	for _, pattern := range s.paths {
		count, excluded, err := s.addMatches(found, filepath.ToSlash(pattern))
		if err != nil {
			return nil, err
		}
		report(pattern, count, excluded)
	}
	if s.untracked {
		if err := s.addUntracked(found); err != nil {
			return nil, err
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func report(pattern string, count, excluded int) {
	directory, err := os.Getwd()
	if err != nil {
		directory = "unknown"
	}
	if count == 0 {
		warning(fmt.Sprintf("%s: no matching files. Ensure that the artifact path is relative to the working directory (%s)", pattern, directory))
		return
	}
	what := "files and directories"
	if excluded > 0 {
		what += fmt.Sprintf(" (%d excluded)", excluded)
	}
	info(fmt.Sprintf("%s: found %d matching %s", pattern, count, what))
}

func (s *selection) addMatches(found map[string]bool, pattern string) (count, excluded int, err error) {
	clean := relative(pattern)
	if clean == "" {
		warning(fmt.Sprintf("%s: path is outside of the working directory", pattern))
		return 0, 0, nil
	}
	err = filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if name == ".git" {
			return filepath.SkipDir
		}
		if name == "." || !below(clean, name) {
			return nil
		}
		if s.excluded(name) {
			excluded++
			return nil
		}
		if !found[name] {
			found[name] = true
			count++
		}
		return nil
	})
	return count, excluded, err
}

func (s *selection) addUntracked(found map[string]bool) error {
	output, err := exec.Command("git", "ls-files", "-o", "-z").Output()
	if err != nil {
		return fmt.Errorf("untracked: git ls-files: %w", err)
	}
	count := 0
	for _, name := range strings.Split(string(output), "\x00") {
		if name != "" && !s.excluded(name) && !found[name] {
			found[name] = true
			count++
		}
	}
	info(fmt.Sprintf("untracked: found %d files", count))
	return nil
}

func (s *selection) excluded(name string) bool {
	for _, pattern := range s.excludes {
		if clean := relative(filepath.ToSlash(pattern)); clean != "" && match(clean, name) {
			return true
		}
	}
	return false
}

// relative is a pattern as seen from the working directory, or "" where it leads out of it.
func relative(pattern string) string {
	if path.IsAbs(pattern) {
		directory, err := os.Getwd()
		if err != nil {
			return ""
		}
		inside, ok := strings.CutPrefix(path.Clean(pattern), filepath.ToSlash(directory)+"/")
		if !ok {
			return ""
		}
		return inside
	}
	clean := path.Clean(pattern)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return ""
	}
	return clean
}

// below reports whether name matches the pattern or lies below a directory that does.
func below(pattern, name string) bool {
	if pattern == "." {
		return true
	}
	for part := name; part != "."; part = path.Dir(part) {
		if match(pattern, part) {
			return true
		}
	}
	return false
}

// match is path.Match with `**` for any number of directories.
func match(pattern, name string) bool {
	return matchParts(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

func matchParts(pattern, name []string) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	if pattern[0] == "**" {
		for skip := 0; skip <= len(name); skip++ {
			if matchParts(pattern[1:], name[skip:]) {
				return true
			}
		}
		return false
	}
	if len(name) == 0 {
		return false
	}
	fits, err := path.Match(pattern[0], name[0])
	return err == nil && fits && matchParts(pattern[1:], name[1:])
}
