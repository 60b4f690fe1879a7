module eci-node

go 1.26

require (
	github.com/creack/pty v1.1.24
	github.com/virtual-kubelet/virtual-kubelet v1.13.0
	golang.org/x/sys v0.49.0
	k8s.io/api v0.36.3
	k8s.io/apimachinery v0.36.3
	k8s.io/client-go v0.36.3
	k8s.io/kubelet v0.36.3
	k8s.io/utils v0.0.0-20260210185600-b8788abfbbc2
)

require k8s.io/apiserver v0.36.3 // indirect
