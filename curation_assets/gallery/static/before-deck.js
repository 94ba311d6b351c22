// deck.gl's bundle holds a library that tries WebAssembly first and does well without. This site's content security
// policy forbids WebAssembly, and the try would be reported as a violation of it.
Object.defineProperty(globalThis, "WebAssembly", { value: undefined, configurable: true, writable: true });
