import type { Model } from './client.js';
import { TaipanError } from './errors.js';
import type { FinishReason, GenerateOptions, Usage } from './types.js';

// The shape of OpenAI's client, as far as it makes sense on one computer: text in, text out, streaming or not.

export interface ChatMessage {
    role: 'system' | 'developer' | 'user' | 'assistant';
    content: string | readonly { type: 'text'; text: string }[];
}

/** A message as a template gets it: of text. */
export type TextMessage = ChatMessage & { content: string };

interface Common {
    model?: string;
    stream?: boolean;
    stream_options?: { include_usage?: boolean };
    max_tokens?: number | null;
    max_completion_tokens?: number | null;
    temperature?: number | null;
    top_p?: number | null;
    seed?: number | null;
    stop?: string | string[] | null;
    /** Not of OpenAI's, but of everybody else's. */
    top_k?: number;
    min_p?: number;
    repetition_penalty?: number;
}

export interface ChatRequest extends Common {
    messages: ChatMessage[];
}

export interface CompletionRequest extends Common {
    prompt: string;
    /** 16 if left out, as OpenAI has it. */
    max_tokens?: number | null;
    echo?: boolean;
}

interface CompletionUsage {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens: number;
}

type Reason = 'stop' | 'length';

interface Answer<O extends string, C> {
    id: string;
    object: O;
    created: number;
    model: string;
    choices: C[];
    usage?: CompletionUsage;
}

export type ChatCompletion = Answer<
    'chat.completion',
    { index: 0; message: { role: 'assistant'; content: string }; finish_reason: Reason; logprobs: null }
>;
export type ChatCompletionChunk = Answer<
    'chat.completion.chunk',
    { index: 0; delta: { role?: 'assistant'; content?: string }; finish_reason: Reason | null; logprobs: null }
>;
export type Completion = Answer<'text_completion', { index: 0; text: string; finish_reason: Reason | null; logprobs: null }>;

export interface FacadeOptions {
    /** What the answers call the model. */
    model?: string;
    /** Makes a prompt of messages. The default is a plain transcript, for models that were not trained to chat. */
    template?: (messages: readonly TextMessage[]) => string;
    /** Texts that end a turn, besides those of a request. */
    stop?: readonly string[];
}

interface CallOptions {
    signal?: AbortSignal;
}

interface Create<Q extends Common, A, S> {
    (request: Q & { stream: true }, options?: CallOptions): Promise<AsyncIterable<S>>;
    (request: Q & { stream?: false }, options?: CallOptions): Promise<A>;
}

export interface OpenAiFacade {
    chat: { completions: { create: Create<ChatRequest, ChatCompletion, ChatCompletionChunk> } };
    completions: { create: Create<CompletionRequest, Completion, Completion> };
}

const NAMES: Record<string, string> = { system: 'System', developer: 'System', user: 'User', assistant: 'Assistant' };

/** A transcript that ends where the assistant speaks. */
function transcript(messages: readonly TextMessage[]): string {
    const line = ({ role, content }: TextMessage): string => `${NAMES[role] ?? refuse(`messages of ${role}`)}: ${content}\n`;
    return [...messages.map(line), 'Assistant:'].join('');
}

function refuse(what: string): never {
    throw new TaipanError('invalid-option', `${what}: not here`, 'texts in, one text out');
}

/** Messages may be in parts, as long as those are texts. */
function textMessage({ role, content, ...rest }: ChatMessage): TextMessage {
    const parts = typeof content === 'string' ? [{ type: 'text', text: content }] : (content ?? refuse('a message without content'));
    const text = parts.map((part) => (part.type === 'text' ? part.text : refuse(`content of type ${part.type}`))).join('');
    return { role, content: text, ...rest };
}

/** Of OpenAI's client, what would change the answer and is not here, each with the value that changes nothing. */
const MISSING = {
    n: 1,
    best_of: 1,
    frequency_penalty: 0,
    presence_penalty: 0,
    logprobs: false,
    logit_bias: {},
    suffix: '',
    tools: [],
    functions: [],
    response_format: { type: 'text' },
};

/** What is asked for in vain is refused rather than ignored. */
function check(request: object): void {
    for (const [name, none] of Object.entries(MISSING)) {
        const value = (request as Record<string, unknown>)[name] ?? none;
        if (JSON.stringify(value) !== JSON.stringify(none)) refuse(`${name} ${JSON.stringify(value)}`);
    }
}

function generation(request: Common, stop: readonly string[], signal: AbortSignal | undefined): GenerateOptions {
    check(request);
    const own = request.stop == null ? [] : [request.stop].flat();
    const maxTokens = request.max_completion_tokens ?? request.max_tokens;
    const options: Record<string, unknown> = {
        maxTokens,
        temperature: request.temperature ?? 1,
        topP: request.top_p,
        topK: request.top_k,
        minP: request.min_p,
        repetitionPenalty: request.repetition_penalty,
        seed: request.seed ?? Math.floor(Math.random() * 2 ** 32),
        signal,
        stop: [...own, ...stop],
    };
    return Object.fromEntries(Object.entries(options).filter(([, value]) => value != null));
}

function usageOf({ promptTokens, completionTokens }: Usage): CompletionUsage {
    return { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens };
}

const reasonOf = (reason: FinishReason): Reason => (reason === 'limit' ? 'length' : 'stop');

/** Pieces of text, then the end. */
type Piece = { text: string } | { reason: Reason; usage: CompletionUsage };

/** A client on top of a model, for code that was written for a server. */
export function createOpenAI(model: Model, { model: name = 'taipan', template = transcript, stop = [] }: FacadeOptions = {}): OpenAiFacade {
    async function* pieces(prompt: string, options: GenerateOptions): AsyncGenerator<Piece, void, void> {
        const session = model.createSession();
        try {
            for await (const event of session.generate(prompt, options)) {
                if (event.type === 'text') yield { text: event.text };
                if (event.type === 'done') yield { reason: reasonOf(event.finishReason), usage: usageOf(event.usage) };
            }
        } finally {
            await session.dispose();
        }
    }

    async function whole(prompt: string, options: GenerateOptions): Promise<{ text: string; reason: Reason; usage: CompletionUsage }> {
        let text = '';
        for await (const piece of pieces(prompt, options)) {
            if ('text' in piece) text += piece.text;
            else return { text, ...piece };
        }
        throw new TaipanError('internal', 'a generation ended without saying why');
    }

    const head = <O extends string>(prefix: string, object: O): { id: string; object: O; created: number; model: string } => ({
        id: `${prefix}-${Math.random().toString(36).slice(2, 14)}`,
        object,
        created: Math.floor(Date.now() / 1000),
        model: name,
    });

    async function chat(request: ChatRequest, { signal }: CallOptions = {}): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
        const prompt = template(request.messages.map(textMessage));
        const turn = template === transcript ? ['\nUser:', '\nSystem:'] : [];
        const options = generation(request, [...stop, ...turn], signal);
        if (request.stream) return chatStream(prompt, options, request.stream_options?.include_usage === true);
        const { text, reason, usage } = await whole(prompt, options);
        const message = { role: 'assistant' as const, content: text };
        const choices = [{ index: 0 as const, message, finish_reason: reason, logprobs: null }];
        return { ...head('chatcmpl', 'chat.completion'), choices, usage };
    }

    async function* chatStream(prompt: string, options: GenerateOptions, withUsage: boolean): AsyncGenerator<ChatCompletionChunk, void, void> {
        const base = head('chatcmpl', 'chat.completion.chunk');
        const chunk = (delta: { role?: 'assistant'; content?: string }, finish_reason: Reason | null): ChatCompletionChunk => {
            return { ...base, choices: [{ index: 0, delta, finish_reason, logprobs: null }] };
        };
        yield chunk({ role: 'assistant', content: '' }, null);
        for await (const piece of pieces(prompt, options)) {
            if ('text' in piece) {
                yield chunk({ content: piece.text }, null);
                continue;
            }
            yield chunk({}, piece.reason);
            if (withUsage) yield { ...base, choices: [], usage: piece.usage };
        }
    }

    async function complete(request: CompletionRequest, { signal }: CallOptions = {}): Promise<Completion | AsyncIterable<Completion>> {
        const options = generation({ ...request, max_tokens: request.max_tokens ?? 16 }, stop, signal);
        const before = request.echo ? request.prompt : '';
        if (request.stream) return textStream(request.prompt, before, options, request.stream_options?.include_usage === true);
        const { text, reason, usage } = await whole(request.prompt, options);
        const choices = [{ index: 0 as const, text: before + text, finish_reason: reason, logprobs: null }];
        return { ...head('cmpl', 'text_completion'), choices, usage };
    }

    async function* textStream(prompt: string, before: string, options: GenerateOptions, withUsage: boolean): AsyncGenerator<Completion, void, void> {
        const base = head('cmpl', 'text_completion');
        const chunk = (text: string, finish_reason: Reason | null): Completion => {
            return { ...base, choices: [{ index: 0, text, finish_reason, logprobs: null }] };
        };
        if (before !== '') yield chunk(before, null);
        for await (const piece of pieces(prompt, options)) {
            if ('text' in piece) {
                yield chunk(piece.text, null);
                continue;
            }
            yield chunk('', piece.reason);
            if (withUsage) yield { ...base, choices: [], usage: piece.usage };
        }
    }

    return {
        chat: { completions: { create: chat as OpenAiFacade['chat']['completions']['create'] } },
        completions: { create: complete as OpenAiFacade['completions']['create'] },
    };
}
