package main

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// writeZip writes the named files and directories, with their modes, times and symbolic links.
func writeZip(out io.Writer, names []string) error {
	archive := zip.NewWriter(out)
	for _, name := range names {
		if err := addToZip(archive, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return archive.Close()
}

func addToZip(archive *zip.Writer, name string) error {
	status, err := os.Lstat(name)
	if err != nil {
		return err
	}
	header, err := zip.FileInfoHeader(status)
	if err != nil {
		return err
	}
	header.Name, header.Method = name, zip.Deflate
	switch {
	case status.IsDir():
		header.Name += "/"
	case status.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(name)
		if err != nil {
			return err
		}
		return writeEntry(archive, header, strings.NewReader(target))
	case !status.Mode().IsRegular():
		warning(name + ": File ignored: not a regular file")
		return nil
	default:
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		return writeEntry(archive, header, file)
	}
	_, err = archive.CreateHeader(header)
	return err
}

func writeEntry(archive *zip.Writer, header *zip.FileHeader, content io.Reader) error {
	entry, err := archive.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, content)
	return err
}

// readZip unpacks an archive into the working directory. An entry that leads out of it is refused before anything is written.
func readZip(name string) error {
	archive, err := zip.OpenReader(name)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, entry := range archive.File {
		if clean := path.Clean(entry.Name); path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
			return fmt.Errorf("%s leads out of the working directory", entry.Name)
		}
	}
	for _, entry := range archive.File {
		if err := extract(entry); err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
	}
	return nil
}

func extract(entry *zip.File) error {
	name, mode := filepath.FromSlash(path.Clean(entry.Name)), entry.Mode()
	if mode.IsDir() {
		if err := os.MkdirAll(name, 0o777); err != nil {
			return err
		}
		return os.Chmod(name, mode.Perm())
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	content, err := entry.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	if mode&os.ModeSymlink != 0 {
		target, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		return os.Symlink(string(target), name)
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode.Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Chtimes(name, entry.Modified, entry.Modified)
}
