package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const dialInterval = time.Second

// checkHealth waits until every given port of localhost, or of the services that the environment names, takes connections.
func checkHealth(flags *flag.FlagSet, arguments []string) error {
	var ports words
	flags.Var(&ports, "port", "port of localhost; may be given several times")
	timeout := flags.Duration("timeout", 5*time.Minute, "how long to wait")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	addresses := servicesOfEnvironment(os.Environ())
	for _, port := range ports {
		addresses = append(addresses, net.JoinHostPort("localhost", port))
	}
	if len(addresses) == 0 {
		return fmt.Errorf("no port and no service to check")
	}
	deadline := time.Now().Add(*timeout)
	for _, address := range addresses {
		fmt.Printf("waiting for TCP connection to %s...\n", address)
		if err := waitForPort(address, deadline); err != nil {
			return err
		}
	}
	return nil
}

func waitForPort(address string, deadline time.Time) error {
	for {
		connection, err := net.DialTimeout("tcp", address, dialInterval)
		if err == nil {
			return connection.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("service %s did not answer in time: %w", address, err)
		}
		time.Sleep(dialInterval)
	}
}

// servicesOfEnvironment reads what Docker's links set: NAME_PORT_5432_TCP_ADDR and NAME_PORT_5432_TCP_PORT.
func servicesOfEnvironment(environment []string) []string {
	values := map[string]string{}
	for _, line := range environment {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	var addresses []string
	for name, host := range values {
		if stem, ok := strings.CutSuffix(name, "_TCP_ADDR"); ok {
			if port := values[stem+"_TCP_PORT"]; port != "" {
				addresses = append(addresses, net.JoinHostPort(host, port))
			}
		}
	}
	return addresses
}
