import type nodeTest from 'node:test';
import { openScene, type OpenScene, type Scene, type SceneOptions, withDaemonOutput } from './scene.ts';

/** The two halves of a scenario, host and guest, in one function. */
export type SceneBody = (scene: Scene) => void | Promise<void>;

/** The test runner is loaded when it is used: `virtiofs vm` needs none. */
function runner(): typeof nodeTest {
  return process.getBuiltinModule('node:test');
}

async function play(scene: OpenScene, body: SceneBody): Promise<void> {
  try {
    await body(scene);
  } catch (error) {
    throw withDaemonOutput(error, scene.daemon);
  }
}

/**
 * A test with a guest of its own: sets the stage, runs the body, unmounts, and checks that the daemon ended cleanly.
 *
 * @param sentence the test's name.
 */
export function scenario(sentence: string, options: SceneOptions, body: SceneBody): void {
  void runner().test(sentence, async () => {
    const scene = await openScene(options);
    try {
      await play(scene, body);
    } catch (error) {
      await scene.abandon();
      throw error;
    }
    await scene.close();
  });
}

/**
 * Tests that share one guest: boots once, runs the tests in their order, then unmounts and checks that the daemon ended
 * cleanly, as the last test. Each test should keep to a folder of its own.
 *
 * ```ts
 * scenes('Linux 7.3 with 4 queues', { kernel: '7.3', queues: 4 }, (scene) => {
 *   scene('reads what the host wrote', async ({ vm, host }) => { ... });
 * });
 * ```
 */
export function scenes(
  title: string,
  options: SceneOptions,
  declare: (scene: (sentence: string, body: (scene: Scene) => void | Promise<void>) => void) => void,
): void {
  const { describe, test, before, after } = runner();
  void describe(title, () => {
    let stage: OpenScene | undefined;
    before(async () => {
      stage = await openScene(options);
    });
    const current = (): OpenScene => {
      if (stage === undefined) throw new Error('the guest did not come up');
      return stage;
    };
    declare((sentence, body) => void test(sentence, () => play(current(), body)));
    void test('unmounts, and the daemon ends cleanly', () => current().close());
    after(() => stage?.abandon());
  });
}
