// Package cloud goes the how-to's whole path with the tools that people have:
// openssl, the aws CLI, mosquitto. A CA is registered, the activator deployed
// by jitrctl, and a gateway gets in because the function that was deployed has
// let it in: the emulator runs that very zip, and activates nothing by itself.
package cloud
