package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// ControlPort is the HTTP port, on loopback, by which a test asks for faults. Requests and answers are JSON; an error
// is {"error": "…"} with status 400, 404 or 409.
type ControlPort struct {
	eci      *ECI
	zones    *Zones
	listener net.Listener
	server   *http.Server
}

// podName names a pod, and a container where one is meant.
type podName struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container,omitempty"`
}

// ListenControl opens the port; Serve answers on it.
func ListenControl(eci *ECI, zones *Zones) (*ControlPort, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := &ControlPort{eci: eci, zones: zones, listener: listener}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /state", answer(port.state))
	routes.HandleFunc("POST /no-stock", answer(port.addNoStock))
	routes.HandleFunc("DELETE /no-stock", answer(port.clearNoStock))
	routes.HandleFunc("POST /pulls", answer(port.addPull))
	routes.HandleFunc("DELETE /pulls", answer(port.clearPulls))
	routes.HandleFunc("POST /quota", answer(port.setQuota))
	routes.HandleFunc("POST /stream-ending", answer(port.setStreamEnding))
	routes.HandleFunc("POST /reclaim", answer(port.reclaim))
	routes.HandleFunc("POST /oom", answer(port.oom))
	routes.HandleFunc("POST /drop-streams", answer(port.dropStreams))
	routes.HandleFunc("POST /stop-node", answer(port.stopNode))
	routes.HandleFunc("POST /start-node", answer(port.startNode))
	routes.HandleFunc("POST /reachable", answer(port.addReachable))
	port.server = &http.Server{Handler: routes, ReadHeaderTimeout: 10 * time.Second}
	return port, nil
}

// Address is HOST:PORT.
func (p *ControlPort) Address() string { return p.listener.Addr().String() }

// Serve answers until Close.
func (p *ControlPort) Serve() error { return p.server.Serve(p.listener) }

// Close ends the port.
func (p *ControlPort) Close() { p.server.Close() }

// refused is an answer with a status of its own.
type refused struct {
	status int
	reason string
}

func (r refused) Error() string { return r.reason }

// answer turns a function from the request's JSON to an answer into a handler. Unknown fields are an error.
func answer[Q any](handle func(request *http.Request, question Q) (any, error)) http.HandlerFunc {
	return func(writer http.ResponseWriter, request *http.Request) {
		var question Q
		var reply any
		var err error
		if request.ContentLength != 0 {
			decoder := json.NewDecoder(request.Body)
			decoder.DisallowUnknownFields()
			err = decoder.Decode(&question)
		}
		if err == nil {
			reply, err = handle(request, question)
		}
		status := http.StatusOK
		if err != nil {
			status = http.StatusBadRequest
			if refusal, ok := err.(refused); ok {
				status = refusal.status
			}
			reply = map[string]string{"error": err.Error()}
		}
		writer.Header().Set("Content-Type", "application/json")
		writer.WriteHeader(status)
		_ = json.NewEncoder(writer).Encode(reply) // the client may have left
	}
}

type nothing struct{}

type stateReport struct {
	PlayedTime   time.Time        `json:"played_time"`
	Faults       FaultReport      `json:"faults"`
	Reachable    []string         `json:"reachable"`
	Nodes        []string         `json:"nodes"`
	MemoryLimits string           `json:"memory_limits"` // "enforced", or why not
	Instances    []instanceReport `json:"instances"`
}

type instanceReport struct {
	Namespace  string `json:"namespace"`
	Pod        string `json:"pod"`
	Node       string `json:"node"`
	InstanceID string `json:"instance_id"`
	Spec       string `json:"spec"`
	Spot       bool   `json:"spot"`
	Phase      string `json:"phase"`
}

func (p *ControlPort) state(*http.Request, nothing) (any, error) {
	report := stateReport{PlayedTime: p.eci.Clock.Now().UTC(), Faults: p.eci.Faults.Report(),
		Reachable: p.eci.Reachable.Addresses(), MemoryLimits: "enforced", Instances: []instanceReport{}}
	if err := MemoryLimitsUnavailable(); err != nil {
		report.MemoryLimits = err.Error()
	}
	for _, node := range p.zones.Running() {
		report.Nodes = append(report.Nodes, node.Name)
	}
	for _, instance := range p.eci.Instances("") {
		report.Instances = append(report.Instances, instance.describe())
	}
	return report, nil
}

func (i *Instance) describe() instanceReport {
	pod := i.Pod()
	i.mu.Lock()
	defer i.mu.Unlock()
	report := instanceReport{Namespace: pod.Namespace, Pod: pod.Name, Node: pod.Spec.NodeName,
		InstanceID: i.ticket.InstanceID, Spot: i.spot, Phase: string(pod.Status.Phase)}
	if i.ticket.InstanceID != "" {
		report.Spec = i.offer.Name()
	}
	return report
}

func (p *ControlPort) addNoStock(_ *http.Request, fault StockFault) (any, error) {
	if err := p.eci.Faults.AddNoStock(fault); err != nil {
		return nil, err
	}
	return p.eci.Faults.Report(), nil
}

func (p *ControlPort) clearNoStock(*http.Request, nothing) (any, error) {
	p.eci.Faults.ClearNoStock()
	return p.eci.Faults.Report(), nil
}

func (p *ControlPort) addPull(_ *http.Request, fault PullFault) (any, error) {
	if fault.Image == "" {
		return nil, refused{http.StatusBadRequest, "image must name an image or a pattern"}
	}
	p.eci.Faults.AddPull(fault)
	return p.eci.Faults.Report(), nil
}

func (p *ControlPort) clearPulls(*http.Request, nothing) (any, error) {
	p.eci.Faults.ClearPulls()
	return p.eci.Faults.Report(), nil
}

func (p *ControlPort) setQuota(_ *http.Request, question struct {
	VCPU float64 `json:"vcpu"`
}) (any, error) {
	if question.VCPU < 0 {
		return nil, refused{http.StatusBadRequest, "vcpu must be 0 (no quota) or more"}
	}
	p.eci.Faults.SetQuota(question.VCPU)
	return p.eci.Faults.Report(), nil
}

func (p *ControlPort) setStreamEnding(_ *http.Request, question struct {
	Ending StreamEnding `json:"ending"`
}) (any, error) {
	if err := p.eci.Faults.SetStreamEnding(question.Ending); err != nil {
		return nil, err
	}
	return p.eci.Faults.Report(), nil
}

func (p *ControlPort) find(name podName) (*Instance, error) {
	if instance := p.eci.Instance(name.Namespace, name.Pod); instance != nil {
		return instance, nil
	}
	return nil, refused{http.StatusNotFound, fmt.Sprintf("pod %s/%s has no instance here", name.Namespace, name.Pod)}
}

func (p *ControlPort) reclaim(_ *http.Request, question struct {
	podName
	LeadSeconds *float64 `json:"lead_seconds"` // played; the command line's lead time if it is missing
	Force       bool     `json:"force"`        // also what is not spot, or protected
}) (any, error) {
	instance, err := p.find(question.podName)
	if err != nil {
		return nil, err
	}
	lead := p.eci.SpotLead
	if question.LeadSeconds != nil {
		lead = time.Duration(*question.LeadSeconds * float64(time.Second))
	}
	if err := instance.Reclaim(lead, question.Force); err != nil {
		return nil, refused{http.StatusConflict, err.Error()}
	}
	return instance.describe(), nil
}

func (p *ControlPort) oom(_ *http.Request, question podName) (any, error) {
	instance, err := p.find(question)
	if err != nil {
		return nil, err
	}
	container := instance.container(question.Container)
	if container == nil || !container.Running() {
		return nil, refused{http.StatusConflict, fmt.Sprintf("container %q of pod %s does not run", question.Container, question.Pod)}
	}
	container.KillForMemory()
	return instance.describe(), nil
}

func (p *ControlPort) dropStreams(_ *http.Request, question podName) (any, error) {
	if _, err := p.find(question); err != nil {
		return nil, err
	}
	return map[string]int{"dropped": p.eci.Streams.Drop(question.Namespace, question.Pod)}, nil
}

type zoneName struct {
	Zone string `json:"zone"`
}

func (p *ControlPort) stopNode(_ *http.Request, question zoneName) (any, error) {
	if err := p.zones.Stop(question.Zone); err != nil {
		return nil, refused{http.StatusNotFound, err.Error()}
	}
	return p.state(nil, nothing{})
}

func (p *ControlPort) startNode(_ *http.Request, question zoneName) (any, error) {
	if err := p.zones.Start(question.Zone); err != nil {
		return nil, refused{http.StatusConflict, err.Error()}
	}
	return p.state(nil, nothing{})
}

func (p *ControlPort) addReachable(_ *http.Request, question struct {
	Address string `json:"address"`
}) (any, error) {
	if err := p.eci.Reachable.Add(question.Address); err != nil {
		return nil, err
	}
	return p.state(nil, nothing{})
}
