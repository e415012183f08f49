/** The kinds of event that are collected without a call. */
export type AutomaticKind = "page_view" | "session_start" | "session_end" | "click" | "rage_click" | "dead_click" | "scroll_depth" | "error" | "performance";
/** Key-value pairs of an event: whatever JSON can hold, at most 64 KiB of it. */
export type Properties = Record<string, unknown>;
/** One event, as it is sent. */
export interface KixoEvent {
    event_type: string;
    event_name: string;
    device_id: string;
    session_id: string;
    /** ISO 8601, when it happened by the device's clock. */
    timestamp: string;
    /** UUIDv7; the event's identity over all attempts to send it. */
    event_id: string;
    properties: Properties;
}
/** Why the server did not take an event. */
export interface Rejection {
    code: string;
    message: string;
    field?: string;
}
export interface Options {
    projectId: string;
    apiKey: string;
    bundleId: string;
    /** Where the server is, such as https://events.example.com. Default: where this file was loaded from. */
    host?: string;
    /** Default: production. */
    environment?: "production" | "staging" | "development";
    /** Which kinds are collected: all (the default), none (false), or all but those that are false. */
    automatic?: boolean | Partial<Record<AutomaticKind, boolean>>;
    /** Query parameters that stay in collected URLs. Default: the five utm_ parameters. */
    queryParameters?: readonly string[];
    /** Collect nothing until `optIn()` is called. What a visitor has chosen before wins. */
    optedOut?: boolean;
    /** Events that are waiting before they are sent. Default: 20. */
    flushEvents?: number;
    /** The longest that an event waits while the page is open. Default: 30. */
    flushSeconds?: number;
    /** Events that may wait, over all tabs; beyond, the oldest go. Default: 1,000. */
    queueEvents?: number;
    /** Characters of JSON that may wait. Default: 1,000,000. */
    queueCharacters?: number;
    /** How long to wait for an answer. Default: 30. */
    requestSeconds?: number;
    /** Sees every event before it is kept; returns it, changed or not, or null to drop it. */
    beforeSend?: (event: KixoEvent) => KixoEvent | null;
    /** Told of every event that the server refused for good. */
    onRejected?: (event: KixoEvent, error: Rejection) => void;
}
export interface KixoClient {
    /** Starts collecting and sending. A second call changes nothing. */
    start(options: Options): void;
    /** Takes an event of your own. Never throws, and never waits for the network. */
    track(name: string, properties?: Properties): void;
    /** Sends what is waiting; resolves when it was sent, or could not be sent now. */
    flush(): Promise<void>;
    /** Ends collecting for this visitor: removes what is waiting and every id. */
    optOut(): void;
    /** Begins collecting again, with new ids. */
    optIn(): void;
}
export declare const Kixo: KixoClient;
