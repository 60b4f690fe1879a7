package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	logFileMissing  = 100
	lookForMore     = 100 * time.Millisecond
	longestLogPiece = 16 * 1024
)

// readLogs follows a file for ever and prints each line behind the offset of its end, so that a reader whose connection
// broke can go on from there.
func readLogs(flags *flag.FlagSet, arguments []string) error {
	name := flags.String("path", "", "the log file")
	offset := flags.Int64("offset", 0, "byte to begin at")
	wait := flags.Duration("wait-file-timeout", time.Minute, "how long to wait for the file")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	file, err := openWhenThere(*name, time.Now().Add(*wait))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(*offset, io.SeekStart); err != nil {
		return err
	}
	return follow(file, *offset, os.Stdout)
}

func openWhenThere(name string, deadline time.Time) (*os.File, error) {
	for {
		file, err := os.Open(name)
		switch {
		case err == nil:
			return file, nil
		case !errors.Is(err, os.ErrNotExist):
			return nil, err
		case time.Now().After(deadline):
			return nil, exitError{logFileMissing, fmt.Errorf("log file %s does not exist", name)}
		}
		time.Sleep(lookForMore)
	}
}

// follow returns only when nobody reads any more.
func follow(file io.Reader, offset int64, out io.Writer) error {
	reader := bufio.NewReaderSize(file, longestLogPiece)
	var line []byte
	for {
		piece, err := reader.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
			offset += int64(len(line))
			if line[len(line)-1] != '\n' {
				line = append(line, '\n')
			}
			if _, err := fmt.Fprintf(out, "%d %s", offset, line); err != nil {
				return err
			}
			line = line[:0]
		case errors.Is(err, io.EOF):
			time.Sleep(lookForMore)
		default:
			return err
		}
	}
}
