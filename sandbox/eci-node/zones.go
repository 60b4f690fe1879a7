package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Zones are the nodes of this process, one for each zone; each can be stopped and started.
type Zones struct {
	eci   *ECI
	ctx   context.Context
	port  int
	mu    sync.Mutex
	nodes map[string]*ZoneNode
}

// NewZones has no node yet.
func NewZones(ctx context.Context, eci *ECI, port int) *Zones {
	return &Zones{eci: eci, ctx: ctx, port: port, nodes: map[string]*ZoneNode{}}
}

// Start brings the node of a zone up; it returns when the node is Ready.
func (z *Zones) Start(zone string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if !slices.Contains(z.eci.Zones, zone) {
		return fmt.Errorf("zone %q is not one of %v", zone, z.eci.Zones)
	}
	if z.nodes[zone] != nil {
		return fmt.Errorf("the node of zone %q runs already", zone)
	}
	node, err := StartZoneNode(z.ctx, z.eci, zone, z.port)
	if err != nil {
		return err
	}
	z.nodes[zone] = node
	return nil
}

// Stop takes the node of a zone away as a power cut would: its pods' processes and streams are gone, and nobody
// tells the API server.
func (z *Zones) Stop(zone string) error {
	z.mu.Lock()
	node := z.nodes[zone]
	delete(z.nodes, zone)
	z.mu.Unlock()
	if node == nil {
		return fmt.Errorf("zone %q has no running node", zone)
	}
	node.Stop()
	for _, instance := range z.eci.Instances(node.Name) {
		instance.CutPower()
	}
	return nil
}

// Running lists the nodes that are up, in the order of their zones.
func (z *Zones) Running() []*ZoneNode {
	z.mu.Lock()
	defer z.mu.Unlock()
	running := []*ZoneNode{}
	for _, zone := range z.eci.Zones {
		if node := z.nodes[zone]; node != nil {
			running = append(running, node)
		}
	}
	return running
}

// StopAll ends all controllers.
func (z *Zones) StopAll() {
	for _, node := range z.Running() {
		node.Stop()
	}
}
