// SPDX-License-Identifier: Apache-2.0
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;

/* Loops hot enough for both of HotSpot's compilers, implicit null checks (SIGSEGV), deoptimisation, threads, the collector. */
public class Check {
    private static int seed = 12345;

    private static int next() {
        seed = seed * 1103515245 + 12345;
        return seed >>> 1;
    }

    private static long integers(int rounds) {
        long sum = 0;
        for (int i = 0; i < rounds; i++) {
            int a = next(), b = next() | 1;
            sum = sum * 31 + a / b + a % (b >>> 12 | 1) + Integer.bitCount(a) + Long.numberOfLeadingZeros(a)
                + Integer.rotateLeft(a, b) + Math.multiplyHigh(a * 0x123456789L, sum) + Integer.reverseBytes(b);
        }
        return sum;
    }

    private static long doubles(int rounds) {
        long sum = 0;
        for (int i = 0; i < rounds; i++) {
            double a = (next() - 0x3fffffff) / 1024.0, b = (next() + 1) / 77777.0;
            sum = sum * 31 + Double.doubleToLongBits(a * b + a / b) + (long) (a * 1e9) + (int) (b * 1e7)
                + Double.doubleToLongBits(Math.sqrt(b)) + Float.floatToIntBits((float) a) + Math.round(a);
            sum += Double.doubleToLongBits(a % b) + (long) Double.NaN + (int) 1e300;
        }
        return sum;
    }

    /* Loops that the compiler makes vector instructions of. */
    private static long vectors(int rounds) {
        int[] a = new int[4096], b = new int[4096];
        float[] x = new float[4096];
        byte[] bytes = new byte[4096];
        long sum = 0;
        for (int i = 0; i < 4096; i++) {
            a[i] = next();
            x[i] = a[i] & 1023;
        }
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < 4096; i++) b[i] = a[i] * 3 + (b[i] ^ round);
            for (int i = 0; i < 4096; i++) x[i] = x[i] * 0.5f + 1.25f;
            for (int i = 0; i < 4096; i++) bytes[i] = (byte) (bytes[i] + (b[i] >> 5));
            for (int i = 0; i < 4096; i++) sum += b[i];
        }
        for (int i = 0; i < 4096; i++) sum = sum * 31 + bytes[i] + Float.floatToIntBits(x[i]);
        return sum;
    }

    interface Shape {
        double area();
    }

    record Square(double side) implements Shape {
        public double area() {
            return side * side;
        }
    }

    record Circle(double radius) implements Shape {
        public double area() {
            return 3 * radius * radius;
        }
    }

    record Line(double length) implements Shape {
        public double area() {
            return 0;
        }
    }

    /* First one class, then two, then three: what was compiled for fewer must be thrown away. */
    private static double shapes(int rounds) {
        double sum = 0;
        for (int kinds = 1; kinds <= 3; kinds++) {
            for (int i = 0; i < rounds; i++) {
                Shape shape = switch (i % kinds) {
                    case 0 -> new Square(i & 15);
                    case 1 -> new Circle(i & 7);
                    default -> new Line(i);
                };
                sum += shape.area();
            }
        }
        return sum;
    }

    private static final class Box {
        int value = 3;
    }

    private static int nulls(int rounds) {
        int caught = 0;
        Box full = new Box();
        int[] none = null, few = new int[3];
        for (int i = 0; i < rounds; i++) {
            Box box = i % 1000 == 999 ? null : full;
            try {
                caught += box.value;
            } catch (NullPointerException e) {
                caught += 100;
            }
            if (i % 500 == 0) {
                try {
                    caught += i % 1000 == 0 ? none[0] : few[i % 7 + 3];
                } catch (NullPointerException e) {
                    caught += 10;
                } catch (ArrayIndexOutOfBoundsException e) {
                    caught += 20;
                }
                try {
                    caught += i / (few[0] * i);
                } catch (ArithmeticException e) {
                    caught += 30;
                }
            }
        }
        return caught;
    }

    private static int overflow(int depth) {
        return overflow(depth + 1) + 1;
    }

    private static long threads() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        AtomicLong shared = new AtomicLong();
        List<Callable<Long>> tasks = new ArrayList<>();
        long[] guarded = new long[1];
        for (int i = 1; i <= 8; i++) {
            int mine = i;
            tasks.add(() -> {
                Map<Integer, byte[]> garbage = new HashMap<>();
                long sum = 0;
                for (int j = 0; j < 6000; j++) {
                    garbage.put(j % 257, new byte[j % 1500]);
                    shared.addAndGet(mine);
                    synchronized (guarded) {
                        guarded[0] += j;
                    }
                    sum += garbage.get(j % 257).length;
                }
                return sum;
            });
        }
        long sum = 0;
        for (Future<Long> future : pool.invokeAll(tasks)) sum += future.get();
        pool.shutdown();
        return sum * 31 + shared.get() * 7 + guarded[0];
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("integers " + integers(300000));
        System.out.println("doubles " + doubles(200000));
        System.out.println("vectors " + vectors(150));
        System.out.println("shapes " + shapes(100000));
        System.out.println("nulls " + nulls(200000));
        try {
            overflow(0);
        } catch (StackOverflowError e) {
            System.out.println("overflow caught");
        }
        System.out.println("threads " + threads());
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 20000; i++) text.append(Integer.toHexString(next())).append(',');
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(text.toString().getBytes("US-ASCII"));
        System.out.println("sha256 " + new java.math.BigInteger(1, digest).toString(16));
        System.out.println("streams " + IntStream.range(0, 50000).filter(i -> i % 3 == 1).mapToObj(Integer::toString)
            .mapToLong(String::hashCode).sum());
    }
}
