package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
)

// selfInContainer is where a container finds this program, which plays the service images.
const selfInContainer = "/usr/bin/eci-standin"

// standinService is a service image that this program plays itself: enough of the protocol for a client to connect
// and get an answer, as a CI job's readiness check does.
type standinService struct {
	Port  int
	Serve func(net.Conn) error
}

var standinServices = map[string]standinService{
	"postgres": {5432, servePostgres},
	"redis":    {6379, new(redisData).serve},
	"http":     {80, serveHTTP},
}

func serviceCommand(name string) []string { return []string{selfInContainer, "service", name} }

// runService serves one stand-in on all addresses of the pod until it is killed.
func runService(name string) error {
	service, ok := standinServices[name]
	if !ok {
		return fmt.Errorf("no stand-in service is called %q", name)
	}
	listener, err := net.Listen("tcp4", ":"+strconv.Itoa(service.Port))
	if err != nil {
		return err
	}
	fmt.Printf("%s stand-in: ready to accept connections on port %d\n", name, service.Port)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := service.Serve(conn); err != nil && err != io.EOF {
				slog.Info("a client's connection ended", "error", err)
			}
		}()
	}
}

const (
	postgresSSLRequest    = 80877103
	postgresGSSRequest    = 80877104
	postgresTextOID       = 25
	postgresLongestPacket = 1 << 20
)

// servePostgres lets every user in and answers each simple query with one row that repeats the query's text.
func servePostgres(conn net.Conn) error {
	for {
		code, err := postgresStartup(conn)
		if err != nil {
			return err
		}
		if code != postgresSSLRequest && code != postgresGSSRequest {
			break
		}
		if _, err := conn.Write([]byte{'N'}); err != nil {
			return err
		}
	}
	greeting := postgresMessage('R', []byte{0, 0, 0, 0})
	greeting = append(greeting, postgresMessage('S', []byte("server_version\x0013.0\x00"))...)
	greeting = append(greeting, postgresMessage('S', []byte("client_encoding\x00UTF8\x00"))...)
	greeting = append(greeting, postgresMessage('K', make([]byte, 8))...)
	ready := postgresMessage('Z', []byte{'I'})
	if _, err := conn.Write(append(greeting, ready...)); err != nil {
		return err
	}
	for {
		kind, body, err := postgresRead(conn)
		if err != nil || kind == 'X' {
			return err
		}
		var answer []byte
		switch kind {
		case 'Q':
			answer = append(postgresRow(strings.TrimRight(string(body), "\x00")), ready...)
		case 'S':
			answer = ready
		default:
			answer = postgresMessage('E', []byte("SERROR\x00C0A000\x00Mthe stand-in answers simple queries only\x00\x00"))
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

func postgresStartup(conn net.Conn) (uint32, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(conn, head); err != nil {
		return 0, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < 8 || length > postgresLongestPacket {
		return 0, fmt.Errorf("not a PostgreSQL client")
	}
	_, err := io.CopyN(io.Discard, conn, int64(length-8))
	return binary.BigEndian.Uint32(head[4:]), err
}

func postgresRead(conn net.Conn) (byte, []byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > postgresLongestPacket {
		return 0, nil, fmt.Errorf("not a PostgreSQL client")
	}
	body := make([]byte, length-4)
	_, err := io.ReadFull(conn, body)
	return head[0], body, err
}

func postgresMessage(kind byte, body []byte) []byte {
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(message, body...)
}

func postgresRow(value string) []byte {
	column := append([]byte{0, 1}, "answer\x00"...)
	column = append(column, 0, 0, 0, 0, 0, 0)
	column = binary.BigEndian.AppendUint32(column, postgresTextOID)
	column = append(column, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0)
	row := binary.BigEndian.AppendUint32([]byte{0, 1}, uint32(len(value)))
	answer := append(postgresMessage('T', column), postgresMessage('D', append(row, value...))...)
	return append(answer, postgresMessage('C', []byte("SELECT 1\x00"))...)
}

// redisData is the memory that all clients of the redis stand-in share.
type redisData struct{ values sync.Map }

func (d *redisData) serve(conn net.Conn) error {
	reader := bufio.NewReader(conn)
	for {
		words, err := redisCommand(reader)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, d.answer(words)); err != nil {
			return err
		}
	}
}

func (d *redisData) answer(words []string) string {
	verb := ""
	if len(words) > 0 {
		verb = strings.ToUpper(words[0])
	}
	switch {
	case verb == "PING":
		return "+PONG\r\n"
	case verb == "SET" && len(words) >= 3:
		d.values.Store(words[1], words[2])
		return "+OK\r\n"
	case verb == "GET" && len(words) == 2:
		if value, ok := d.values.Load(words[1]); ok {
			return fmt.Sprintf("$%d\r\n%s\r\n", len(value.(string)), value)
		}
		return "$-1\r\n"
	}
	return fmt.Sprintf("-ERR the stand-in does not know '%s'\r\n", verb)
}

func redisCommand(reader *bufio.Reader) ([]string, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "*") {
		return strings.Fields(line), nil
	}
	count, err := strconv.Atoi(line[1:])
	if err != nil || count < 0 || count > 1024 {
		return nil, fmt.Errorf("not a redis client")
	}
	words := make([]string, 0, count)
	for range count {
		if _, err := reader.ReadString('\n'); err != nil { // the length, which the line below shows as well
			return nil, err
		}
		word, err := reader.ReadString('\n')
		if err != nil {
			return nil, err
		}
		words = append(words, strings.TrimRight(word, "\r\n"))
	}
	return words, nil
}

func serveHTTP(conn net.Conn) error {
	reader := bufio.NewReader(conn)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
			return err
		}
	}
}
