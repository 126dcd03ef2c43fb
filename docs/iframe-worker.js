// A browser starts no worker from a file, so where the site is opened from a folder its search runs in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      window.addEventListener("message", (event) => {
        if (event.source === frame.contentWindow) {
          const answer = new MessageEvent("message", { data: event.data });
          this.onmessage?.(answer);
          this.dispatchEvent(answer);
        }
      });
      this.frame = frame;
      this.ready = new Promise((resolve) => {
        const inside = frame.contentWindow;
        inside.postMessage = (data) => window.dispatchEvent(new MessageEvent("message", { data, source: inside }));
        inside.importScripts = () => Promise.resolve();
        const script = frame.contentDocument.createElement("script");
        script.src = url;
        script.onload = resolve;
        frame.contentDocument.body.append(script);
      });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
  window.Worker = window.IFrameWorker;
}
