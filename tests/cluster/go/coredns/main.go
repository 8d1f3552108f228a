// CoreDNS with the few plugins that a cluster's names need. The stock program
// carries every cloud's DNS service along and takes three times as long to build.
// Must never grow a plugin that asks a server outside this machine.
package main

import (
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	coremain.Run()
}
