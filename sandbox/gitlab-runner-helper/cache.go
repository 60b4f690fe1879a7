package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// cacheOptions are the flags that both cache commands take. Where a URL is given the archive also goes to, or comes
// from, an object store by a signed request.
type cacheOptions struct {
	file    string
	url     string
	timeout int
}

func (c *cacheOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&c.file, "file", "", "the archive")
	flags.StringVar(&c.url, "url", "", "signed URL of the archive in an object store")
	flags.IntVar(&c.timeout, "timeout", 10, "minutes that a transfer may take")
}

func (c *cacheOptions) client() *http.Client {
	return &http.Client{Timeout: time.Duration(c.timeout) * time.Minute}
}

func extractCache(flags *flag.FlagSet, arguments []string) error {
	var options cacheOptions
	options.register(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if options.file == "" {
		return errors.New("missing cache file")
	}
	if options.url == "" {
		info("No URL provided, cache will not be downloaded from shared cache server. " +
			"Instead a local version of cache will be extracted.")
	} else if err := options.download(); err != nil {
		warning(err.Error())
	}
	if _, err := os.Stat(options.file); errors.Is(err, os.ErrNotExist) {
		warning("Cache file does not exist")
		return exitError{code: 1}
	}
	return readZip(options.file)
}

func (c *cacheOptions) download() error {
	answer, err := c.client().Get(c.url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("received: %s", answer.Status)
	}
	info("Downloading cache from object store")
	return replaceFile(c.file, func(out io.Writer) error {
		_, err := io.Copy(out, answer.Body)
		return err
	})
}

func archiveCache(flags *flag.FlagSet, arguments []string) error {
	var options cacheOptions
	var files selection
	options.register(flags)
	files.register(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if options.file == "" {
		return errors.New("missing --file")
	}
	names, err := files.find()
	if err != nil {
		return err
	}
	if upToDate(options.file, names) {
		info("Archive is up to date!")
		return nil
	}
	if err := replaceFile(options.file, func(out io.Writer) error { return writeZip(out, names) }); err != nil {
		return err
	}
	if options.url == "" {
		info("No URL provided, cache will be not uploaded to shared cache server. Cache will be stored only locally.")
		return nil
	}
	return options.upload()
}

func (c *cacheOptions) upload() error {
	content, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPut, c.url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	answer, err := c.client().Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("received: %s", answer.Status)
	}
	info("Uploading cache.zip to object store")
	return nil
}

// upToDate reports whether no selected file is newer than the archive.
func upToDate(archive string, names []string) bool {
	made, err := os.Stat(archive)
	if err != nil {
		return false
	}
	for _, name := range names {
		status, err := os.Lstat(name)
		if err != nil || !status.ModTime().Before(made.ModTime()) {
			return false
		}
	}
	return true
}

// replaceFile writes a file so that others see the old one or the new one, never half of it.
func replaceFile(name string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := errors.Join(write(file), file.Chmod(0o666), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
