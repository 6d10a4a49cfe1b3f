interface Deferred<T> {
    promise: Promise<T>;
    resolve: (value: T) => void;
    reject: (error: unknown) => void;
}

function deferred<T>(): Deferred<T> {
    let resolve!: (value: T) => void;
    let reject!: (error: unknown) => void;
    const promise = new Promise<T>((yes, no) => ([resolve, reject] = [yes, no]));
    promise.catch(() => {}); // a failure that nobody comes to see is not an unhandled one
    return { promise, resolve, reject };
}

type Step<T, R> = { item: T; answer: (more: boolean) => void } | { result: R };

/**
 * Turns a function that calls back with every item into an iterator. The next item is made only when it is asked for, and
 * leaving the loop answers the callback with `false` and waits until the function has ended.
 */
export async function* pull<T, R>(run: (each: (item: T) => Promise<boolean>) => Promise<R>): AsyncGenerator<T, R, void> {
    let next = deferred<Step<T, R>>();
    const ended = run((item) => new Promise((answer) => next.resolve({ item, answer }))).then(
        (result) => next.resolve({ result }),
        (error: unknown) => next.reject(error),
    );
    let answer: ((more: boolean) => void) | undefined;
    try {
        for (;;) {
            const step = await next.promise;
            if ('result' in step) return step.result;
            next = deferred();
            answer = step.answer;
            yield step.item;
            answer(true);
            answer = undefined;
        }
    } finally {
        answer?.(false);
        await ended;
    }
}
